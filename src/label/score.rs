//! From similarities to scores: calibrated probabilities.

use crate::embedding::{Embedding, EmbeddingError, Modality, dot};
use crate::model::{Calibration, Manifest, Scoring};

use super::answer::{Labelling, ScoredLabel, answer};
use super::compiled::CompiledLabels;
use super::tree::Tree;

/// How labels are scored and which of them are returned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreOptions {
    /// Most labels to return.
    pub top: usize,
    /// Labels below this score are not returned. `None` returns the best ones whatever their
    /// score, and says "unknown" when something unseen fits better than all of them.
    pub threshold: Option<f32>,
    /// Score every label on its own instead of letting them compete.
    pub multi: bool,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self { top: 5, threshold: None, multi: false }
    }
}

/// Scores pictures against one compiled label set, with one package's calibration.
///
/// A score is the softmax over the labels, the negatives and one more outcome, "none of these":
/// `z_k = logit_scale / temperature * (image - label_centring * image_mean) · (label_k - text_mean)`,
/// and a fitted constant for none of these. Without fitted numbers it is the model's own softmax.
#[derive(Debug, Clone)]
pub struct Scorer<'a> {
    labels: &'a CompiledLabels,
    options: ScoreOptions,
    calibration: &'a Calibration,
    /// Share of the mean picture that is taken off where labels compete.
    label_centring: f32,
    /// Multiplies centred similarities when labels compete.
    scale: f32,
    /// Logit of "none of these".
    null_logit: Option<f32>,
    /// `[scale, bias]` of the logistic for independent scores.
    independent: Option<[f32; 2]>,
    tree: Tree,
}

impl<'a> Scorer<'a> {
    /// A scorer with the calibration of `manifest`.
    pub fn new(labels: &'a CompiledLabels, manifest: &'a Manifest, options: ScoreOptions) -> Self {
        let calibration = &manifest.calibration;
        let scale = manifest.logit_scale / calibration.temperature.unwrap_or(1.0);
        let independent = image_text_logistic(manifest);
        let tree = Tree::new(labels.labels())
            .expect("parents are checked where labels are compiled or read");
        let label_centring = calibration.label_centring.unwrap_or(1.0);
        let null_logit = calibration.null_logit;
        Self { labels, options, calibration, label_centring, scale, null_logit, independent, tree }
    }

    /// The same scorer with all of the mean picture taken off where labels compete, whatever share the package
    /// states. What common things have over rare ones helps to name one picture of anything; where all pictures show
    /// one place, as a fixed camera's do, it would hold a common label up against what changes there. Temperature and
    /// "none of these" are then those that `manifest`, the scorer's own, has for it ([`Calibration::one_place`]).
    #[must_use]
    pub fn for_one_place(mut self, manifest: &Manifest) -> Self {
        self.label_centring = 1.0;
        if let Some([temperature, null_logit]) = manifest.calibration.one_place {
            self.scale = manifest.logit_scale / temperature;
            self.null_logit = Some(null_logit);
        }
        self
    }

    /// Labels one picture (or anything else in the same space).
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`] when the embedding comes from another space.
    pub fn score(&self, embedding: &Embedding) -> Result<Labelling, EmbeddingError> {
        let similarities = self.similarities(embedding)?;
        let answer = if self.options.multi {
            let scores = self.independent_scores(embedding);
            answer(&self.tree, &self.options, &similarities, &scores, 0.0)
        } else {
            let (scores, none) = self.competing(embedding);
            let hidden = self.labels.labels().iter().zip(&scores).filter(|(l, _)| l.negative);
            let rival = hidden.map(|(_, score)| *score).fold(none, f32::max);
            let scores: Vec<_> = scores.into_iter().map(Some).collect();
            answer(&self.tree, &self.options, &similarities, &scores, rival)
        };
        Ok(answer)
    }

    /// Labels one picture, ranked by similarity less what each label of the set loses as a hub
    /// (see [`crate::space::hub_discounts`]). Nothing was calibrated to such numbers, so there are
    /// no scores; parents are left out. Whether it is unknown is decided as in [`Scorer::score`].
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`].
    ///
    /// # Panics
    /// When there is not one discount a label.
    pub fn rank_corrected(
        &self,
        embedding: &Embedding,
        discounts: &[f32],
    ) -> Result<Labelling, EmbeddingError> {
        let similarities = self.similarities(embedding)?;
        assert_eq!(similarities.len(), discounts.len(), "each label has a discount");
        let unknown = self.score(embedding)?.unknown;
        let names = self.labels.labels();
        let mut order: Vec<usize> = (0..names.len()).filter(|&l| !names[l].negative).collect();
        let corrected = |label: usize| similarities[label] - discounts[label];
        order.sort_by(|&a, &b| corrected(b).total_cmp(&corrected(a)));
        let label = |&label: &usize| ScoredLabel {
            name: names[label].name.clone(),
            parent: names[label].parent.clone(),
            score: None,
            similarity: similarities[label],
        };
        Ok(Labelling { labels: order.iter().take(self.options.top).map(label).collect(), unknown })
    }

    /// One probability a label, in the order of the set, as they compete.
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`].
    pub fn probabilities(&self, embedding: &Embedding) -> Result<Vec<f32>, EmbeddingError> {
        self.check_space(embedding)?;
        Ok(self.competing(embedding).0)
    }

    /// Cosine similarity to every label, negatives included, in the order of the set.
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`].
    pub fn similarities(&self, embedding: &Embedding) -> Result<Vec<f32>, EmbeddingError> {
        self.check_space(embedding)?;
        let count = self.labels.labels().len();
        let similarity = |i| dot(embedding.values(), self.labels.row(i)).clamp(-1.0, 1.0);
        Ok((0..count).map(similarity).collect())
    }

    /// Whether the package can score labels on their own.
    pub fn has_independent_scores(&self) -> bool {
        self.independent.is_some()
    }

    fn check_space(&self, embedding: &Embedding) -> Result<(), EmbeddingError> {
        if embedding.space() == self.labels.space() {
            return Ok(());
        }
        Err(EmbeddingError::SpaceMismatch {
            left: embedding.space().short(),
            right: self.labels.space().short(),
        })
    }

    /// Similarity to every label without the modalities' offsets, or without a `share` of the
    /// picture's. That side is centred once; what the text mean takes off is the same for every
    /// label.
    fn centred(&self, embedding: &Embedding, share: f32) -> Vec<f32> {
        let means =
            (self.calibration.mean(embedding.modality()), self.calibration.mean(Modality::Text));
        let (values, offset) = match means {
            (Some(own), Some(text)) => {
                let pairs = embedding.values().iter().zip(own);
                let values: Vec<f32> = pairs.map(|(value, mean)| value - share * mean).collect();
                let offset = dot(&values, text);
                (values, offset)
            }
            _ => (embedding.values().to_vec(), 0.0),
        };
        (0..self.labels.labels().len()).map(|i| dot(&values, self.labels.row(i)) - offset).collect()
    }

    /// Softmax over labels, negatives and "none of these", which comes apart.
    fn competing(&self, embedding: &Embedding) -> (Vec<f32>, f32) {
        let share = match embedding.modality() {
            Modality::Image => self.label_centring,
            _ => 1.0,
        };
        let mut centred = self.centred(embedding, share);
        centred.iter_mut().for_each(|similarity| *similarity *= self.scale);
        let none = self.null_logit;
        let highest = centred.iter().copied().chain(none).fold(f32::NEG_INFINITY, f32::max);
        centred.iter_mut().for_each(|logit| *logit = (*logit - highest).exp());
        let none = none.map_or(0.0, |logit| (logit - highest).exp());
        let total = centred.iter().sum::<f32>() + none;
        centred.iter_mut().for_each(|weight| *weight /= total);
        (centred, none / total)
    }

    fn independent_scores(&self, embedding: &Embedding) -> Vec<Option<f32>> {
        let score = |s: &f32| self.independent.map(|[scale, bias]| sigmoid(scale * s + bias));
        self.centred(embedding, 1.0).iter().map(score).collect()
    }
}

/// The probability that two inputs of these modalities show or say the same, or `None` where the
/// package has no calibration for the pair.
pub fn match_probability(manifest: &Manifest, a: &Embedding, b: &Embedding) -> Option<f32> {
    let c = &manifest.calibration;
    let [scale, bias] = match [a.modality(), b.modality()] {
        [Modality::Image, Modality::Image] => c.match_image_image,
        [Modality::Text, Modality::Text] => c.match_text_text,
        [Modality::Image, Modality::Text] | [Modality::Text, Modality::Image] => {
            image_text_logistic(manifest)
        }
        _ => None,
    }?;
    let similarity = c.centred_similarity((a.modality(), a.values()), (b.modality(), b.values()));
    Some(sigmoid(scale * similarity + bias))
}

/// `[scale, bias]` of the logistic for a picture and a text: fitted, or the model's own where it
/// was trained with one.
fn image_text_logistic(manifest: &Manifest) -> Option<[f32; 2]> {
    let own = (manifest.scoring == Scoring::Sigmoid)
        .then_some([manifest.logit_scale, manifest.logit_bias]);
    manifest.calibration.match_image_text.or(own)
}

/// The logistic function.
fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::super::compiled::LabelName;
    use super::*;
    use crate::embedding::{Modality, SpaceId};

    const SPACE: SpaceId = SpaceId::from_bytes([9; 32]);

    fn manifest(calibration: &str) -> Manifest {
        let zeros = "0".repeat(64);
        let text = format!(
            "format = 1\nname = 'm'\nversion = '1'\nlicence = 'MIT'\nsource = 's'\ndimension = 3\n\
             logit_scale = 10.0\n[image]\nfile = 'i'\nsha256 = '{zeros}'\ninput = 'x'\noutput = 'y'\n\
             [image.preprocess]\nresize = 'shortest'\nresize_size = 8\ncrop = [8, 8]\n\
             interpolation = 'bicubic'\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n\
             [calibration]\n{calibration}\n"
        );
        Manifest::parse(&text, "model.toml").unwrap()
    }

    fn labels(names: &[(&str, Option<&str>, bool)], rows: Vec<f32>) -> CompiledLabels {
        let names = names.iter().map(|(name, parent, negative)| LabelName {
            name: (*name).into(),
            parent: parent.map(str::to_owned),
            negative: *negative,
        });
        let names: Vec<_> = names.collect();
        let classes = (0..names.len()).collect();
        CompiledLabels::new(SPACE, 3, names, classes, rows)
    }

    fn axes() -> Vec<f32> {
        vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    }

    fn picture(values: [f32; 3]) -> Embedding {
        Embedding::new(SPACE, Modality::Image, values.to_vec()).unwrap()
    }

    #[test]
    fn competing_scores_are_a_softmax() {
        let set = labels(&[("a", None, false), ("b", None, false), ("c", None, false)], axes());
        let manifest = manifest("");
        let scorer = Scorer::new(&set, &manifest, ScoreOptions::default());
        let answer = scorer.score(&picture([0.6, 0.8, 0.0])).unwrap();
        let names: Vec<_> = answer.labels.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"]);
        let total = 8f32.exp() + 6f32.exp() + 1.0;
        assert!((answer.labels[0].score.unwrap() - 8f32.exp() / total).abs() < 1e-5);
        assert!(!answer.unknown);
    }

    #[test]
    fn negatives_take_their_share_and_stay_hidden() {
        let set = labels(&[("a", None, false), ("b", None, false), ("wall", None, true)], axes());
        let options = ScoreOptions { threshold: Some(0.5), ..ScoreOptions::default() };
        let manifest = manifest("");
        let scorer = Scorer::new(&set, &manifest, options);
        let answer = scorer.score(&picture([0.1, 0.1, 1.0])).unwrap();
        assert!(answer.labels.is_empty() && answer.unknown);
    }

    #[test]
    fn none_of_these_makes_a_lone_label_unsure() {
        let set = labels(&[("a", None, false)], vec![1.0, 0.0, 0.0]);
        let sure = manifest("null_logit = 3.0\ntemperature = 0.5");
        let scorer = Scorer::new(&set, &sure, ScoreOptions::default());
        assert!(!scorer.score(&picture([1.0, 0.0, 0.0])).unwrap().unknown);
        assert!(scorer.score(&picture([0.1, 1.0, 0.0])).unwrap().unknown);
    }

    #[test]
    fn means_are_taken_off_before_scoring() {
        // Every picture likes "a"; centring takes that off.
        let set =
            labels(&[("a", None, false), ("b", None, false)], vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let centred = manifest("image_mean = [0.8, 0.0, 0.0]\ntext_mean = [0.5, 0.5, 0.0]");
        let scorer = Scorer::new(&set, &centred, ScoreOptions::default());
        let answer = scorer.score(&picture([0.8, 0.6, 0.0])).unwrap();
        assert_eq!(answer.labels[0].name, "b");
        assert!(answer.labels[0].similarity < answer.labels[1].similarity);
        let expected = 1.0 / (1.0 + (-6f32).exp());
        assert!((answer.labels[0].score.unwrap() - expected).abs() < 1e-5);
    }

    #[test]
    fn labels_compete_without_the_stated_share_of_the_mean_picture() {
        let set =
            labels(&[("a", None, false), ("b", None, false)], vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let means = "image_mean = [0.8, 0.0, 0.0]\ntext_mean = [0.5, 0.5, 0.0]\n\
                     match_image_text = [10.0, -5.0]";
        let quarter = manifest(&format!("{means}\nlabel_centring = 0.25"));
        let whole = manifest(means);
        let picture = picture([0.8, 0.6, 0.0]);
        let score = |manifest: &Manifest, multi| {
            let options = ScoreOptions { multi, ..ScoreOptions::default() };
            let answer = Scorer::new(&set, manifest, options).score(&picture).unwrap();
            answer.labels.iter().find(|label| label.name == "a").unwrap().score.unwrap()
        };
        assert!((score(&quarter, false) - 0.5).abs() < 1e-6, "0.8 - 0.25 * 0.8 equals 0.6");
        assert!(score(&whole, false) < 0.01);
        assert_eq!(score(&quarter, true), score(&whole, true), "lone labels lose the whole mean");
        let camera = Scorer::new(&set, &quarter, ScoreOptions::default()).for_one_place(&quarter);
        let answer = camera.score(&picture).unwrap();
        assert!(answer.labels[1].score.unwrap() < 0.01 && answer.labels[1].name == "a");
        let own = manifest(&format!("{means}\nlabel_centring = 0.25\none_place = [10.0, 4.0]"));
        let camera = Scorer::new(&set, &own, ScoreOptions::default()).for_one_place(&own);
        let scores = camera.probabilities(&picture).unwrap();
        let total = (-0.3f32).exp() + 0.3f32.exp() + 4f32.exp();
        assert!((scores[1] - 0.3f32.exp() / total).abs() < 1e-6, "10 / 10 * 0.3 against 4.0");
    }

    #[test]
    fn an_unsure_child_leaves_the_answer_to_its_parent() {
        let names =
            [("cat", Some("animal"), false), ("dog", Some("animal"), false), ("car", None, false)];
        let set = labels(&names, axes());
        let manifest = manifest("");
        let answer = |options, values| {
            Scorer::new(&set, &manifest, options).score(&picture(values)).unwrap()
        };
        let unsure = answer(ScoreOptions::default(), [1.0, 0.999, 0.0]);
        let shown: Vec<_> = unsure.labels.iter().map(|label| label.name.as_str()).collect();
        assert_eq!(shown, ["animal", "cat", "dog", "car"]);
        let strict = ScoreOptions { threshold: Some(0.8), ..ScoreOptions::default() };
        let fallen_back = answer(strict, [1.0, 0.999, 0.0]);
        assert_eq!(fallen_back.labels.len(), 1);
        assert_eq!((fallen_back.labels[0].name.as_str(), fallen_back.unknown), ("animal", false));
        assert!(fallen_back.labels[0].score.unwrap() > 0.99);
        let sure = answer(strict, [1.0, 0.2, 0.0]);
        let names: Vec<_> = sure.labels.iter().map(|label| label.name.as_str()).collect();
        assert_eq!(names, ["cat", "animal"]);
        assert_eq!(sure.labels[0].parent.as_deref(), Some("animal"));
    }

    #[test]
    fn scores_are_consistent_along_the_tree() {
        let names =
            [("poodle", Some("dog"), false), ("dog", Some("animal"), false), ("car", None, false)];
        let set = labels(&names, axes());
        let manifest = manifest("match_image_text = [10.0, -5.0]");
        for multi in [false, true] {
            let options = ScoreOptions { multi, ..ScoreOptions::default() };
            let scorer = Scorer::new(&set, &manifest, options);
            let answer = scorer.score(&picture([0.5, 0.3, 0.2])).unwrap();
            let score = |name: &str| {
                answer.labels.iter().find(|label| label.name == name).unwrap().score.unwrap()
            };
            assert!(score("animal") >= score("dog") && score("dog") >= score("poodle"));
            assert_eq!(answer.labels[0].name, "poodle");
        }
    }

    #[test]
    fn independent_scores_are_calibrated_or_absent() {
        let set = labels(&[("a", None, false), ("b", None, false), ("c", None, false)], axes());
        let options = ScoreOptions { multi: true, ..ScoreOptions::default() };
        let plain = manifest("");
        let absent = Scorer::new(&set, &plain, options);
        assert_eq!(absent.score(&picture([1.0, 0.0, 0.0])).unwrap().labels[0].score, None);
        let fitted = manifest("match_image_text = [10.0, -5.0]");
        let present = Scorer::new(&set, &fitted, options);
        let score = present.score(&picture([1.0, 0.0, 0.0])).unwrap().labels[0].score.unwrap();
        assert!((score - sigmoid(5.0)).abs() < 1e-6);
    }

    #[test]
    fn foreign_embeddings_are_refused() {
        let set = labels(&[("a", None, false)], vec![1.0, 0.0, 0.0]);
        let manifest = manifest("");
        let scorer = Scorer::new(&set, &manifest, ScoreOptions::default());
        let foreign =
            Embedding::new(SpaceId::from_bytes([0; 32]), Modality::Image, vec![1.0, 0.0, 0.0]);
        assert!(scorer.score(&foreign.unwrap()).is_err());
    }
}
