//! The symmetric contrastive loss of two linear maps, and its gradient.

use nalgebra::DMatrix;

/// What is learned: a square map for each modality and the logarithm of the logit scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Maps {
    pub(super) image: DMatrix<f32>,
    pub(super) text: DMatrix<f32>,
    pub(super) log_scale: f32,
}

/// A batch: unit columns, and for each caption (column of `texts`) the picture that it belongs
/// to. Column i of both is a pair; two captions of one picture are no counter-example to each
/// other.
pub(super) struct Batch<'a> {
    pub(super) images: &'a DMatrix<f32>,
    pub(super) texts: &'a DMatrix<f32>,
    pub(super) owners: &'a [usize],
}

/// Applies a map and brings the columns back onto the sphere; gives their lengths before that.
/// A column that the map sends to zero stays there.
pub(super) fn mapped(map: &DMatrix<f32>, points: &DMatrix<f32>) -> (DMatrix<f32>, Vec<f32>) {
    let mut moved = map * points;
    let lengths = moved
        .column_iter_mut()
        .map(|mut column| {
            let length = column.norm().max(1e-12);
            column /= length;
            length
        })
        .collect();
    (moved, lengths)
}

/// InfoNCE both ways (van den Oord et al. 2018; CLIP, Radford et al. 2021): the mean of the cross
/// entropies of picture to caption and caption to picture, in nats; and its gradient.
pub(super) fn contrastive(maps: &Maps, batch: &Batch<'_>) -> (f32, Maps) {
    let scale = maps.log_scale.exp();
    let (images, image_lengths) = mapped(&maps.image, batch.images);
    let (texts, text_lengths) = mapped(&maps.text, batch.texts);
    let cosines = images.transpose() * &texts;
    let (loss, slope) = cross_entropy(&cosines, scale, batch.owners);
    let to_images = &texts * slope.transpose() * scale;
    let to_texts = &images * &slope * scale;
    let gradient = Maps {
        image: through_sphere(&images, &image_lengths, to_images) * batch.images.transpose(),
        text: through_sphere(&texts, &text_lengths, to_texts) * batch.texts.transpose(),
        log_scale: slope.component_mul(&cosines).sum() * scale,
    };
    (loss, gradient)
}

/// The loss alone.
pub(super) fn loss(maps: &Maps, batch: &Batch<'_>) -> f32 {
    let (images, _) = mapped(&maps.image, batch.images);
    let (texts, _) = mapped(&maps.text, batch.texts);
    cross_entropy(&(images.transpose() * &texts), maps.log_scale.exp(), batch.owners).0
}

/// Mean cross entropy of rows and columns, and its slope at each logit.
fn cross_entropy(cosines: &DMatrix<f32>, scale: f32, owners: &[usize]) -> (f32, DMatrix<f32>) {
    let size = cosines.nrows();
    let counts = |i: usize, j: usize| i == j || owners[i] != owners[j];
    let logit = |i: usize, j: usize| {
        if counts(i, j) { scale * cosines[(i, j)] } else { f32::NEG_INFINITY }
    };
    let logits = DMatrix::from_fn(size, size, logit);
    let log_sum = |values: &mut dyn Iterator<Item = f32>| {
        let values: Vec<f32> = values.collect();
        let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        top + values.iter().map(|v| (v - top).exp()).sum::<f32>().ln()
    };
    let rows: Vec<f32> = logits.row_iter().map(|r| log_sum(&mut r.iter().copied())).collect();
    let columns: Vec<f32> = logits.column_iter().map(|c| log_sum(&mut c.iter().copied())).collect();
    let total: f32 = (0..size).map(|i| rows[i] + columns[i] - 2.0 * logits[(i, i)]).sum();
    let halves = 2.0 * size as f32;
    let slope = DMatrix::from_fn(size, size, |i, j| {
        let both = (logits[(i, j)] - rows[i]).exp() + (logits[(i, j)] - columns[j]).exp();
        (both - if i == j { 2.0 } else { 0.0 }) / halves
    });
    (total / halves, slope)
}

/// The slope before the columns were scaled to length one, from that after it.
fn through_sphere(units: &DMatrix<f32>, lengths: &[f32], mut slope: DMatrix<f32>) -> DMatrix<f32> {
    for ((mut column, unit), length) in
        slope.column_iter_mut().zip(units.column_iter()).zip(lengths)
    {
        let along = column.dot(&unit);
        column.axpy(-along, &unit, 1.0);
        column /= *length;
    }
    slope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::sample::Dice;

    fn random(dice: &mut Dice, rows: usize, columns: usize) -> DMatrix<f32> {
        DMatrix::from_fn(rows, columns, |_, _| dice.below(2001) as f32 / 1000.0 - 1.0)
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let mut dice = Dice::new(9);
        let maps =
            Maps { image: random(&mut dice, 4, 4), text: random(&mut dice, 4, 4), log_scale: 1.2 };
        let (images, texts) = (random(&mut dice, 4, 6), random(&mut dice, 4, 6));
        let batch = Batch { images: &images, texts: &texts, owners: &[0, 1, 2, 2, 4, 5] };
        let (value, gradient) = contrastive(&maps, &batch);
        assert!((value - loss(&maps, &batch)).abs() < 1e-6);
        let step = 1e-2;
        let slope = |change: &dyn Fn(&mut Maps, f32)| {
            let [mut up, mut down] = [maps.clone(), maps.clone()];
            change(&mut up, step);
            change(&mut down, -step);
            (loss(&up, &batch) - loss(&down, &batch)) / (2.0 * step)
        };
        for place in 0..16 {
            let image = slope(&|maps, by| maps.image[place] += by);
            let text = slope(&|maps, by| maps.text[place] += by);
            assert!((image - gradient.image[place]).abs() < 2e-3, "image {place}");
            assert!((text - gradient.text[place]).abs() < 2e-3, "text {place}");
        }
        assert!((slope(&|maps, by| maps.log_scale += by) - gradient.log_scale).abs() < 2e-3);
    }

    #[test]
    fn captions_of_one_picture_do_not_compete() {
        let points = DMatrix::from_column_slice(2, 2, &[1.0, 0.0, 1.0, 0.0]);
        let identity = DMatrix::identity(2, 2);
        let maps = Maps { image: identity.clone(), text: identity, log_scale: 0.0 };
        let apart = Batch { images: &points, texts: &points, owners: &[0, 1] };
        let one = Batch { images: &points, texts: &points, owners: &[0, 0] };
        assert!((loss(&maps, &apart) - 2f32.ln()).abs() < 1e-6);
        assert!(loss(&maps, &one).abs() < 1e-6);
    }
}
