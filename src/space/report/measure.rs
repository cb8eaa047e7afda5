//! Measuring everything that a set of points allows.

use super::explain::explanation;
use super::{Figure, NamedConfusion, Report, Verdict};
use crate::space::align::{Pairs, image_recall};
use crate::space::error::SpaceError;
use crate::space::geometry::{
    Histogram, alignment, area_under_curve, concentration, confusions, effective_rank, hubness,
    hubness_within, maximum_likelihood_dimension, modality_gap, paired_similarities,
    random_similarities, two_nearest_dimension, uniformity,
};
use crate::space::points::Points;
use crate::space::principal::{Principal, neighbour_recall};
use crate::space::sample::sample;

/// Neighbours of hubness.
const HUB_NEIGHBOURS: usize = 10;
/// Neighbours of the maximum-likelihood dimension.
const DIMENSION_NEIGHBOURS: usize = 20;
/// Bins of histograms.
const BINS: usize = 60;
/// Random pairs drawn.
const RANDOM_PAIRS: usize = 20_000;
/// Rows below which a figure is shown and not judged: the rules of thumb are of sets to search in.
pub(super) const FEWEST_JUDGED: usize = 50;
/// Most confusable names listed.
const CONFUSIONS: usize = 50;

/// What is to be measured.
#[derive(Debug, Clone, Default)]
pub struct ReportInput {
    /// How the user calls it.
    pub subject: String,
    /// Fingerprint of the space.
    pub space: String,
    /// Pictures, if there are any.
    pub images: Option<Points>,
    /// Texts (captions, labels), if there are any.
    pub texts: Option<Points>,
    /// How many pictures and texts there are, where not all of them are given here.
    pub of_rows: [usize; 2],
    /// For each text, the row of its picture, when they are captions.
    pub owners: Option<Vec<usize>>,
    /// Names of the texts, when they are labels; the similarity at which two are too close; and
    /// the logit scale with which they compete.
    pub labels: Option<(Vec<String>, f32, f32)>,
    /// Figures measured elsewhere: key, rows, value.
    pub extra: Vec<(&'static str, &'static str, Result<f64, SpaceError>)>,
    /// Most rows of each kind to measure.
    pub sample: usize,
    /// Decides which.
    pub seed: u64,
}

/// Measures everything that `input` allows. A figure without a value says why; the report itself
/// always comes about.
///
/// `step` is told how many of how many steps are done.
///
/// # Errors
/// [`SpaceError::NoTerms`] without any rows; [`SpaceError::Dimension`] or
/// [`SpaceError::Unpaired`] when the parts do not fit together.
pub fn report(input: &ReportInput, step: &dyn Fn(usize, usize)) -> Result<Report, SpaceError> {
    let rows =
        |points: &Option<Points>, all: usize| all.max(points.as_ref().map_or(0, Points::rows));
    let any = input.images.as_ref().or(input.texts.as_ref()).ok_or(SpaceError::NoTerms)?;
    let part = |points: &Points| points.select(&sample(points.rows(), input.sample, input.seed));
    let mut report = Report {
        subject: input.subject.clone(),
        space: input.space.clone(),
        dimension: any.dimension(),
        images: rows(&input.images, input.of_rows[0]),
        texts: rows(&input.texts, input.of_rows[1]),
        sampled: input.sample,
        seed: input.seed,
        figures: Vec::new(),
        confusions: Vec::new(),
        matching: None,
        random: None,
        variance: Vec::new(),
    };
    let (images, texts) = (input.images.as_ref().map(part), input.texts.as_ref().map(part));
    step(0, 5);
    if let (Some(images), Some(texts), Some(owners)) = (&input.images, &input.texts, &input.owners)
    {
        let pairs = Pairs::new(images.clone(), texts.clone(), owners.clone())?;
        pair_figures(&mut report, &pairs, input)?;
    }
    step(1, 5);
    if let (Some(images), Some(texts)) = (&images, &texts) {
        cross_figures(&mut report, images, texts)?;
    }
    step(2, 5);
    if let Some(images) = &images {
        set_figures(&mut report, images, "pictures");
    }
    step(3, 5);
    if let Some(texts) = &texts {
        set_figures(&mut report, texts, if input.labels.is_some() { "names" } else { "texts" });
    }
    step(4, 5);
    if let (Some(texts), Some((names, limit, scale))) = (&input.texts, &input.labels) {
        label_figures(&mut report, texts, names, *limit, *scale);
    }
    let given = [&input.images, &input.texts].into_iter().flatten().map(Points::rows).min();
    for (key, of, value) in &input.extra {
        push(&mut report, key, (of, given.unwrap_or(0)), value.clone());
    }
    if let Some(points) = images.as_ref().or(texts.as_ref()) {
        let kept = points.dimension().min(points.rows().saturating_sub(1)).min(256);
        report.variance =
            Principal::fit(points, kept).map(|p| p.explained().to_vec()).unwrap_or_default();
    }
    step(5, 5);
    Ok(report)
}

fn pair_figures(report: &mut Report, pairs: &Pairs, input: &ReportInput) -> Result<(), SpaceError> {
    let captions = sample(pairs.len(), input.sample, input.seed);
    let owners: Vec<usize> = captions.iter().map(|&caption| pairs.owners()[caption]).collect();
    let (images, texts) = (pairs.images().select(&owners), pairs.texts().select(&captions));
    let of = ("pairs", pairs.images().rows());
    push(report, "alignment", of, alignment(&images, &texts));
    let matching = paired_similarities(&images, &texts)?;
    let random = random_similarities(pairs.images(), &texts, &owners, RANDOM_PAIRS, input.seed);
    let area = random.as_ref().map_err(SpaceError::clone);
    push(report, "area_under_curve", of, area.and_then(|r| area_under_curve(&matching, r)));
    push(report, "image_recall", of, Ok(image_recall(pairs).at_5));
    report.matching = Histogram::new(&matching, BINS, -0.5, 1.0).ok();
    report.random = random.and_then(|random| Histogram::new(&random, BINS, -0.5, 1.0)).ok();
    Ok(())
}

fn cross_figures(report: &mut Report, images: &Points, texts: &Points) -> Result<(), SpaceError> {
    images.same_dimension(texts)?;
    let of = ("pictures and texts", images.rows().min(texts.rows()));
    let gap = modality_gap(images, texts);
    for (key, value) in [
        ("centroid_distance", gap.as_ref().map(|g| g.centroid_distance)),
        ("distribution_distance", gap.as_ref().map(|g| g.distribution_distance)),
        ("separability", gap.as_ref().map(|g| g.separability)),
        ("image_cone", gap.as_ref().map(|g| g.left_cosine)),
        ("text_cone", gap.as_ref().map(|g| g.right_cosine)),
    ] {
        push(report, key, of, value.map_err(SpaceError::clone));
    }
    let of = ("pictures, asked by texts", images.rows());
    hub_figures(report, of, hubness(texts, images, HUB_NEIGHBOURS));
    Ok(())
}

fn hub_figures(
    report: &mut Report,
    of: (&'static str, usize),
    found: Result<crate::space::geometry::Hubness, SpaceError>,
) {
    for (key, value) in [
        ("hub_skewness", found.as_ref().map(|h| h.skewness)),
        ("largest_hub", found.as_ref().map(|h| h.largest_share)),
        ("anti_hubs", found.as_ref().map(|h| h.anti_hubs)),
    ] {
        push(report, key, of, value.map_err(SpaceError::clone));
    }
}

fn set_figures(report: &mut Report, points: &Points, of: &'static str) {
    let of = (of, points.rows());
    push(report, "uniformity", of, uniformity(points));
    hub_figures(report, of, hubness_within(points, HUB_NEIGHBOURS));
    let rank = effective_rank(points);
    push(report, "effective_rank", of, rank.as_ref().map(|r| r.rank).map_err(SpaceError::clone));
    push(report, "participation", of, rank.map(|r| r.participation));
    let quarter = (points.dimension() / 4).max(1);
    let enough = points.need("comparing neighbours in a quarter of the numbers", quarter + 1);
    let short = enough.and_then(|()| Principal::fit(points, quarter)?.apply(points));
    let kept = short.and_then(|short| neighbour_recall(points, &short, HUB_NEIGHBOURS));
    push(report, "short_recall", of, kept);
    push(report, "two_nearest", of, two_nearest_dimension(points).map(|t| t.dimension));
    let likely = maximum_likelihood_dimension(points, DIMENSION_NEIGHBOURS);
    push(report, "maximum_likelihood", of, likely);
    let spread = concentration(points);
    let contrast = spread.as_ref().map(|s| s.relative_contrast);
    push(report, "relative_contrast", of, contrast.map_err(SpaceError::clone));
    push(report, "variation", of, spread.map(|s| s.variation));
}

fn label_figures(report: &mut Report, texts: &Points, names: &[String], limit: f32, scale: f32) {
    let found = confusions(texts, limit, usize::MAX, scale);
    // Two names are enough to be too close.
    push(report, "confusable", ("names", usize::MAX), Ok(found.len() as f64));
    let named = found.into_iter().take(CONFUSIONS).filter_map(|pair| {
        let (first, second) = (names.get(pair.first)?, names.get(pair.second)?);
        let (similarity, separable) = (pair.similarity, pair.separable);
        Some(NamedConfusion { first: first.clone(), second: second.clone(), similarity, separable })
    });
    report.confusions = named.collect();
}

/// Adds a figure; `of` is what it is about, and of how many rows.
fn push(
    report: &mut Report,
    key: &'static str,
    (of, rows): (&'static str, usize),
    value: Result<f64, SpaceError>,
) {
    let (value, reason) = match value {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error.to_string())),
    };
    report.figures.push(Figure { key, of, value, reason, verdict: verdict(key, value, rows) });
}

fn verdict(key: &str, value: Option<f64>, rows: usize) -> Verdict {
    let mut bounds = explanation(key).bounds.filter(|_| rows >= FEWEST_JUDGED);
    if key == "largest_hub" {
        // Each row comes up for this share of all queries when none is a hub.
        let fair = HUB_NEIGHBOURS as f64 / rows as f64;
        bounds = bounds.map(|[good, bad]| [good.max(3.0 * fair), bad.max(6.0 * fair)]);
    }
    match (value, bounds) {
        (Some(value), Some([good, bad])) => {
            // Falling bounds mean that small is bad.
            let (value, good, bad) =
                if good <= bad { (value, good, bad) } else { (-value, -good, -bad) };
            if value <= good {
                Verdict::Good
            } else if value <= bad {
                Verdict::Fair
            } else {
                Verdict::Bad
            }
        }
        _ => Verdict::Neutral,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(count: usize, turn: f32) -> Points {
        let values = (0..count)
            .map(|i| i as f32 * 0.37 + turn)
            .flat_map(|angle| [angle.cos(), angle.sin()])
            .collect();
        Points::new(values, 2).unwrap()
    }

    fn input() -> ReportInput {
        ReportInput {
            subject: "<a & b>".to_owned(),
            images: Some(circle(60, 0.0)),
            texts: Some(circle(60, 0.1)),
            owners: Some((0..60).collect()),
            sample: 50,
            ..ReportInput::default()
        }
    }

    #[test]
    fn groups_stand_once_and_contents_name_what_there_is() {
        let found = report(&input(), &|_, _| {}).unwrap();
        let groups = found.groups();
        for (place, (of, figures)) in groups.iter().enumerate() {
            assert!(groups[..place].iter().all(|(earlier, _)| earlier != of), "{of} stands twice");
            assert!(figures.iter().all(|figure| figure.of == *of));
        }
        assert_eq!(groups.iter().map(|(_, g)| g.len()).sum::<usize>(), found.figures.len());
        assert_eq!(found.contents(), "60 pictures, 60 texts");
        let texts = Report { images: 0, texts: 1, ..found };
        assert_eq!(texts.contents(), "1 text");
    }

    #[test]
    fn reports_hold_every_figure_and_are_the_same_twice() {
        let found = report(&input(), &|_, _| {}).unwrap();
        assert_eq!(found, report(&input(), &|_, _| {}).unwrap());
        let keys: Vec<_> = found.figures.iter().map(|f| f.key).collect();
        for key in ["alignment", "centroid_distance", "hub_skewness", "two_nearest", "variation"] {
            assert!(keys.contains(&key), "{key}");
        }
        assert!(found.figures.iter().all(|f| f.value.is_none_or(f64::is_finite)));
        let page = found.to_html();
        assert!(page.contains("&lt;a &amp; b&gt;") && !page.contains("<a & b>"));
        assert!(page.matches("<svg").count() >= 2 && !page.contains("href"));
    }

    #[test]
    fn one_row_and_equal_rows_say_why_there_is_no_value() {
        for rows in [1, 30] {
            let same = Points::new([0.6, 0.8].repeat(rows), 2).unwrap();
            let input = ReportInput { images: Some(same), sample: 50, ..ReportInput::default() };
            let found = report(&input, &|_, _| {}).unwrap();
            assert!(found.figures.iter().all(|f| f.value.is_some() != f.reason.is_some()));
            assert!(found.figures.iter().any(|f| f.reason.is_some()));
            assert!(found.to_html().contains("</html>"));
        }
        assert!(report(&ReportInput::default(), &|_, _| {}).is_err());
    }

    #[test]
    fn few_rows_are_measured_and_not_judged() {
        let of = |count: usize| {
            let images = Some(circle(count, 0.0));
            let input = ReportInput { images, sample: 2000, ..ReportInput::default() };
            report(&input, &|_, _| {}).unwrap()
        };
        let (few, many) = (of(FEWEST_JUDGED - 1), of(FEWEST_JUDGED));
        assert!(few.figures.iter().all(|f| f.verdict == Verdict::Neutral));
        assert!(few.figures.iter().any(|f| f.value.is_some()));
        assert!(few.remark().is_some() && few.to_html().contains("not judged"));
        assert!(many.figures.iter().any(|f| f.verdict != Verdict::Neutral));
        assert!(many.remark().is_none());
        // A fifth of 50 rows' neighbours is no hub.
        assert_eq!(verdict("largest_hub", Some(0.2), 50), Verdict::Good);
        assert_eq!(verdict("largest_hub", Some(0.2), 1000), Verdict::Fair);
        assert_eq!(verdict("largest_hub", Some(0.4), 1000), Verdict::Bad);
    }

    #[test]
    fn a_caption_of_the_same_picture_is_no_random_one() {
        let images = Points::new(vec![1.0, 0.0, 0.0, 1.0], 2).unwrap();
        let texts = Points::new([[1.0, 0.0], [0.0, 1.0]].concat().repeat(10), 2).unwrap();
        let input = ReportInput {
            images: Some(images),
            texts: Some(texts),
            owners: Some((0..20).map(|i| i % 2).collect()),
            sample: 50,
            ..ReportInput::default()
        };
        let found = report(&input, &|_, _| {}).unwrap();
        let area = found.figures.iter().find(|f| f.key == "area_under_curve").unwrap();
        assert_eq!(area.value, Some(1.0));
        assert_eq!(found.random.unwrap().mean, 0.0);
    }

    #[test]
    fn names_that_are_too_close_are_listed() {
        let names = ["cat", "kitten", "car"].map(str::to_owned).to_vec();
        let texts = Points::new(vec![1.0, 0.0, 0.995, 0.0999, 0.0, 1.0], 2).unwrap();
        let labels = Some((names, 0.9, 30.0));
        let input = ReportInput { texts: Some(texts), labels, sample: 9, ..ReportInput::default() };
        let found = report(&input, &|_, _| {}).unwrap();
        assert_eq!(found.confusions.len(), 1);
        assert_eq!((&*found.confusions[0].first, &*found.confusions[0].second), ("cat", "kitten"));
    }
}
