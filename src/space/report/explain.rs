//! What each figure means, where it comes from, and what to do about a bad one.

/// What is known about a figure besides its value.
pub(super) struct Explanation {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) meaning: &'static str,
    pub(super) source: &'static str,
    pub(super) advice: &'static str,
    /// Values beyond these are fair and bad, in the order good, bad: rising when large is bad.
    /// They are rules of thumb, not laws.
    pub(super) bounds: Option<[f64; 2]>,
}

/// The explanation of `key`; every key that is measured has one.
pub(super) fn explanation(key: &str) -> &'static Explanation {
    ALL.iter().find(|e| e.key == key).unwrap_or(&ALL[0])
}

const ALL: [Explanation; 22] = [
    Explanation {
        key: "alignment",
        title: "Alignment",
        meaning: "Mean squared distance between a picture and its caption: 0 when they coincide, 2 when they have nothing in common.",
        source: "Wang and Isola 2020",
        advice: "Check that captions belong to their pictures; fit the model to your pairs with `sextant space align`.",
        bounds: Some([1.3, 1.7]),
    },
    Explanation {
        key: "area_under_curve",
        title: "Matching above random",
        meaning: "Chance that a matching pair is more similar than a random one: 0.5 is guessing, 1 is perfect.",
        source: "area under the ROC curve (Mann and Whitney 1947)",
        advice: "Use a larger model, write captions like those it was trained on, or fit it with `sextant space align`.",
        bounds: Some([0.95, 0.8]),
    },
    Explanation {
        key: "uniformity",
        title: "Uniformity",
        meaning: "How evenly points cover the sphere: 0 when all are one point, about -4 for an even cover.",
        source: "Wang and Isola 2020",
        advice: "Pictures of one scene, and texts of one form, bunch together by nature; where they should not, centre them (a package's image_mean, text_mean) before comparing.",
        bounds: Some([-2.0, -1.0]),
    },
    Explanation {
        key: "centroid_distance",
        title: "Modality gap",
        meaning: "Distance between the mean picture and the mean text. It moves all similarities by the same amount, so it hurts mixed sums and absolute thresholds, not rankings.",
        source: "Liang et al. 2022, \"Mind the Gap\"",
        advice: "Use a package with image_mean and text_mean: scores and mixed queries then take the gap off.",
        bounds: Some([0.4, 0.8]),
    },
    Explanation {
        key: "distribution_distance",
        title: "Difference in shape",
        meaning: "What is left of the distance between pictures and texts (as normal distributions) when their means coincide. Centring cannot mend it. Few rows make it larger.",
        source: "Fréchet distance; Dowson and Landau 1982",
        advice: "Captions that say less (or more) than pictures show have another shape: vary them, or fit with `sextant space align`.",
        bounds: Some([0.6, 0.9]),
    },
    Explanation {
        key: "separability",
        title: "Separable by a plane",
        meaning: "How well a plane tells pictures from texts on rows it has not seen: 0.5 when they are mixed, 1 when they are apart. Most contrastive models reach 1.",
        source: "Liang et al. 2022; ridge regression",
        advice: "As for the modality gap.",
        bounds: None,
    },
    Explanation {
        key: "image_cone",
        title: "Cone of pictures",
        meaning: "Mean similarity of two different pictures: near 0 they use the whole sphere, near 1 they sit in a narrow cone.",
        source: "Liang et al. 2022",
        advice: "Centre embeddings before comparing them; absolute similarities say little in a narrow cone.",
        bounds: Some([0.4, 0.7]),
    },
    Explanation {
        key: "text_cone",
        title: "Cone of texts",
        meaning: "Mean similarity of two different texts.",
        source: "Liang et al. 2022",
        advice: "As for pictures; texts that share a template share most of their direction.",
        bounds: Some([0.4, 0.7]),
    },
    Explanation {
        key: "hub_skewness",
        title: "Hubness",
        meaning: "Skewness of how often a row is among the ten nearest of a query: 0 is fair, above 1 a few rows answer everything.",
        source: "Radovanović et al. 2010",
        advice: "A few rows come up for everything: search with `--hubs csls --bank FILE`, where FILE has typical queries.",
        bounds: Some([1.0, 2.5]),
    },
    Explanation {
        key: "largest_hub",
        title: "Largest hub",
        meaning: "Share of queries that have the most frequent row among their ten nearest.",
        source: "Radovanović et al. 2010",
        advice: "Look at that row: blank, blurred and collage pictures are typical hubs. Remove it, or correct for hubs.",
        bounds: Some([0.1, 0.3]),
    },
    Explanation {
        key: "anti_hubs",
        title: "Never found",
        meaning: "Share of rows that are among the ten nearest of no query: no search of this kind finds them.",
        source: "Radovanović et al. 2010",
        advice: "Search for more results, or correct for hubs; duplicates hide each other too.",
        bounds: Some([0.2, 0.5]),
    },
    Explanation {
        key: "effective_rank",
        title: "Effective rank",
        meaning: "How many directions the rows use, from their singular values' entropy: at most the dimension, and at most the rows.",
        source: "Roy and Vetterli 2007; RankMe, Garrido et al. 2023",
        advice: "A low rank wastes memory: `sextant space pca` says what shorter rows cost.",
        bounds: None,
    },
    Explanation {
        key: "participation",
        title: "Directions of variance",
        meaning: "How many directions carry the variance about the mean: (Σλ)² / Σλ².",
        source: "participation ratio of the covariance",
        advice: "As for the effective rank.",
        bounds: None,
    },
    Explanation {
        key: "short_recall",
        title: "Neighbours kept by short rows",
        meaning: "Share of each row's ten nearest that are still among them when rows keep a quarter of their numbers, along the axes of most variance.",
        source: "principal components (Pearson 1901)",
        advice: "Keep more numbers, or search short rows first and the best hundred again with whole ones.",
        bounds: Some([0.85, 0.6]),
    },
    Explanation {
        key: "two_nearest",
        title: "Intrinsic dimension (TwoNN)",
        meaning: "How many numbers would describe where the rows lie, from the two nearest neighbours of each. Too low for few rows: compare equal sample sizes only.",
        source: "Facco et al. 2017",
        advice: "Far below the dimension is normal, and why short rows and int8 lose so little.",
        bounds: None,
    },
    Explanation {
        key: "maximum_likelihood",
        title: "Intrinsic dimension (likelihood)",
        meaning: "The same from the twenty nearest neighbours; near-duplicates and uneven density pull it down.",
        source: "Levina and Bickel 2005; MacKay and Ghahramani 2005",
        advice: "Where it differs much from TwoNN, the rows have different dimensions at different scales.",
        bounds: None,
    },
    Explanation {
        key: "relative_contrast",
        title: "Contrast of distances",
        meaning: "How much farther the farthest row is than the nearest, on average: near 0, \"nearest\" means nothing.",
        source: "Beyer et al. 1999",
        advice: "Rows that are all unlike each other have no neighbours: add more of a kind, or shorten rows.",
        bounds: Some([0.5, 0.2]),
    },
    Explanation {
        key: "variation",
        title: "Variation of distances",
        meaning: "Standard deviation of all distances over their mean: near 0, all distances are alike.",
        source: "concentration of distances; Beyer et al. 1999",
        advice: "As for contrast.",
        bounds: Some([0.08, 0.03]),
    },
    Explanation {
        key: "calibration_error",
        title: "Calibration error (ECE)",
        meaning: "How far scores are from being right as often as they say, over as many matching as random pairs.",
        source: "Naeini et al. 2015; Guo et al. 2017",
        advice: "Calibrate the package on pictures like yours, or read scores as an order only.",
        bounds: Some([0.05, 0.15]),
    },
    Explanation {
        key: "image_recall",
        title: "Captions that find their picture",
        meaning: "Share of captions with their own picture among the five nearest of this set.",
        source: "image recall at 5",
        advice: "Use a larger model, or fit it with `sextant space align`.",
        bounds: Some([0.6, 0.3]),
    },
    Explanation {
        key: "leakage",
        title: "Background leakage",
        meaning: "Share of a caption's similarity above a random caption's that is lost when everything around what it names is blurred: 0 when the model looks at the thing.",
        source: "after CounterAnimal, Wang et al. 2024",
        advice: "Label with `--focus`, which looks past the background; add negatives that name the background.",
        bounds: Some([0.25, 0.6]),
    },
    Explanation {
        key: "confusable",
        title: "Names too close",
        meaning: "Pairs of names so close that the model can hardly tell them apart.",
        source: "cosine similarity of label embeddings",
        advice: "Merge them, give them a common parent, or say in prompts how they differ.",
        bounds: Some([0.5, 3.5]),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_one_explanation() {
        for e in &ALL {
            assert_eq!(ALL.iter().filter(|other| other.key == e.key).count(), 1, "{}", e.key);
            assert!(e.meaning.ends_with('.') && !e.source.is_empty());
        }
    }
}
