//! Measurements of a space against numpy, scipy, scikit-learn and scikit-dimension: the goldens
//! come from `tests/scripts/space_reference.py`.

use std::path::PathBuf;

use serde_json::Value;
use sextant::space::geometry::{
    Histogram, alignment, area_under_curve, concentration, effective_rank, hubness, hubness_within,
    maximum_likelihood_dimension, modality_gap, paired_similarities, two_nearest_dimension,
    uniformity,
};
use sextant::space::{Points, Principal, QueryBank, Similarities, local_scaling};

fn folder() -> PathBuf {
    super::command::root().join("tests/golden/space")
}

fn expected() -> Value {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn points(name: &str, dimension: usize) -> Points {
    let bytes = std::fs::read(folder().join(format!("{name}.f32"))).unwrap();
    let values = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
    Points::new(values.collect(), dimension).unwrap()
}

/// Agreement to 1e-4, relative for values above one.
fn agree(what: &str, found: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("{what}: {expected}"));
    let slack = 1e-4 * expected.abs().max(1.0);
    assert!((found - expected).abs() <= slack, "{what}: {found} is not {expected}");
}

#[test]
fn single_sets_agree_with_the_references() {
    let expected = expected();
    let sets = expected["sets"].as_object().unwrap();
    assert_eq!(sets.len(), 5);
    for (name, set) in sets {
        let points = points(name, set["dimension"].as_u64().unwrap() as usize);
        let k = set["k"].as_u64().unwrap() as usize;
        let agree =
            |what: &str, found: f64, value: &Value| agree(&format!("{name} {what}"), found, value);
        agree("uniformity", uniformity(&points).unwrap(), &set["uniformity"]);
        let spread = concentration(&points).unwrap();
        agree("relative contrast", spread.relative_contrast, &set["relative_contrast"]);
        agree("variation", spread.variation, &set["variation"]);
        let hubs = hubness_within(&points, k).unwrap();
        agree("skewness", hubs.skewness, &set["hubness"]["skewness"]);
        agree("largest share", hubs.largest_share, &set["hubness"]["largest_share"]);
        agree("anti-hubs", hubs.anti_hubs, &set["hubness"]["anti_hubs"]);
        let rank = effective_rank(&points).unwrap();
        agree("rank", rank.rank, &set["rank"]["rank"]);
        agree("centred rank", rank.centred_rank, &set["rank"]["centred_rank"]);
        agree("participation", rank.participation, &set["rank"]["participation"]);
        let two = two_nearest_dimension(&points).unwrap().dimension;
        agree("TwoNN", two, &set["intrinsic"]["two_nearest"]);
        let likely = maximum_likelihood_dimension(&points, k).unwrap();
        agree("maximum likelihood", likely, &set["intrinsic"]["maximum_likelihood"]);
    }
}

#[test]
fn pairs_agree_with_the_references() {
    let expected = expected();
    let pair = &expected["pair"];
    let (images, texts) = (points("images", 16), points("texts", 16));
    agree("alignment", alignment(&images, &texts).unwrap(), &pair["alignment"]);
    let gap = modality_gap(&images, &texts).unwrap();
    agree("centroid distance", gap.centroid_distance, &pair["gap"]["centroid_distance"]);
    agree("shape", gap.distribution_distance, &pair["gap"]["distribution_distance"]);
    agree("separability", gap.separability, &pair["gap"]["separability"]);
    agree("left cone", gap.left_cosine, &pair["gap"]["left_cosine"]);
    agree("right cone", gap.right_cosine, &pair["gap"]["right_cosine"]);
    let hubs = hubness(&texts, &images, 10).unwrap();
    agree("skewness", hubs.skewness, &pair["cross_hubness"]["skewness"]);
    agree("largest share", hubs.largest_share, &pair["cross_hubness"]["largest_share"]);
    agree("anti-hubs", hubs.anti_hubs, &pair["cross_hubness"]["anti_hubs"]);
    let matching = paired_similarities(&images, &texts).unwrap();
    let rolled: Vec<usize> = (0..120).map(|row| (row + 119) % 120).collect();
    let shifted = paired_similarities(&images, &texts.select(&rolled)).unwrap();
    let area = area_under_curve(&matching, &shifted).unwrap();
    agree("area", area, &pair["area_under_curve"]);
    let histogram = Histogram::new(&matching, 20, -1.0, 1.0).unwrap();
    let counts: Vec<_> = histogram.counts.iter().map(|&c| Value::from(c)).collect();
    assert_eq!(Value::from(counts), pair["histogram"]);
    agree("mean", histogram.mean, &pair["matching_mean"]);
    agree("deviation", histogram.deviation, &pair["matching_deviation"]);
}

#[test]
fn corrections_for_hubs_agree_with_numpy() {
    let expected = expected();
    let (images, texts) = (points("images", 16), points("texts", 16));
    let similarities = Similarities::between(&texts, &images).unwrap();
    let scaled = local_scaling(&similarities, 10).unwrap();
    for (column, value) in
        expected["corrections"]["csls_row_3"].as_array().unwrap().iter().enumerate()
    {
        agree("CSLS", f64::from(scaled[3][column]), value);
    }
    let part = |rows: std::ops::Range<usize>| texts.select(&rows.collect::<Vec<_>>());
    let bank =
        QueryBank::new(&Similarities::between(&part(0..60), &images).unwrap(), 20.0).unwrap();
    for (key, only_hubs) in [("inverted_best", false), ("dynamic_best", true)] {
        let best: Vec<usize> = (60..120)
            .map(|query| {
                let scores = bank.scores(similarities.row(query), only_hubs).unwrap();
                (0..120).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap()
            })
            .collect();
        assert_eq!(Value::from(best), expected["corrections"][key], "{key}");
    }
}

#[test]
fn logistic_curves_agree_with_scikit_learn() {
    let expected = &expected()["learners"]["logistic"];
    let (images, texts) = (points("images", 16), points("texts", 16));
    let rolled: Vec<usize> = (0..120).map(|row| (row + 119) % 120).collect();
    let mut values = paired_similarities(&images, &texts).unwrap();
    values.extend(paired_similarities(&images, &texts.select(&rolled)).unwrap());
    let answers: Vec<bool> = (0..240).map(|row| row < 120).collect();
    let [scale, bias] = sextant::space::logistic(&values, &answers).unwrap();
    agree("scale", f64::from(scale), &expected[0]);
    agree("bias", f64::from(bias), &expected[1]);
}

#[test]
fn principal_components_agree_with_scikit_learn() {
    let expected = &expected()["principal"];
    let images = points("images", 16);
    let fitted = Principal::fit(&images, 6).unwrap();
    for (found, value) in fitted.explained().iter().zip(expected["explained"].as_array().unwrap()) {
        agree("explained variance", *found, value);
    }
    let short = fitted.apply(&images).unwrap();
    for (found, value) in
        short.row(0).iter().zip(expected["absolute_first_row"].as_array().unwrap())
    {
        agree("first row", f64::from(found.abs()), value);
    }
}
