//! Pictures with captions, divided so that no picture is on two sides.

use crate::space::error::SpaceError;
use crate::space::points::Points;
use crate::space::sample::Dice;

/// Captions and the pictures they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    images: Points,
    texts: Points,
    /// For each caption, its picture's row.
    owners: Vec<usize>,
}

impl Pairs {
    /// Puts pictures, captions and, for each caption, the row of its picture together.
    ///
    /// # Errors
    /// [`SpaceError::Unpaired`] when owners and captions differ in number or an owner is beyond
    /// the last picture; [`SpaceError::Dimension`].
    pub fn new(images: Points, texts: Points, owners: Vec<usize>) -> Result<Self, SpaceError> {
        images.same_dimension(&texts)?;
        if owners.len() != texts.rows() {
            return Err(SpaceError::Unpaired { left: owners.len(), right: texts.rows() });
        }
        if let Some(&owner) = owners.iter().find(|&&owner| owner >= images.rows()) {
            return Err(SpaceError::Unpaired { left: images.rows(), right: owner + 1 });
        }
        Ok(Self { images, texts, owners })
    }

    /// Number of captions.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are no captions.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The pictures.
    pub fn images(&self) -> &Points {
        &self.images
    }

    /// The captions.
    pub fn texts(&self) -> &Points {
        &self.texts
    }

    /// For each caption, its picture's row.
    pub fn owners(&self) -> &[usize] {
        &self.owners
    }

    /// The pictures at `images` with all their captions, renumbered.
    pub(super) fn of_images(&self, images: &[usize]) -> Self {
        let mut place = vec![None; self.images.rows()];
        images.iter().enumerate().for_each(|(new, &old)| place[old] = Some(new));
        let captions: Vec<usize> =
            (0..self.len()).filter(|&c| place[self.owners[c]].is_some()).collect();
        Self {
            images: self.images.select(images),
            texts: self.texts.select(&captions),
            owners: captions.iter().filter_map(|&c| place[self.owners[c]]).collect(),
        }
    }

    /// Divides the pictures by chance in shares: seven tenths to fit, a tenth to stop by, a fifth
    /// to judge by.
    pub(super) fn divided(&self, seed: u64) -> [Self; 3] {
        let mut rows: Vec<usize> = (0..self.images.rows()).collect();
        Dice::new(seed).shuffle(&mut rows);
        let (judge, rest) = rows.split_at(rows.len() / 5);
        let (stop, fit) = rest.split_at(rows.len() / 10);
        [fit, stop, judge].map(|part| self.of_images(part))
    }
}
