//! From scores to the answer: an order, names with parents, and the honest "unknown".

use super::score::ScoreOptions;
use super::tree::{Node, Tree};

/// One label as it fits one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredLabel {
    /// The label's (or parent's) name.
    pub name: String,
    /// The broader label that it counts towards.
    pub parent: Option<String>,
    /// Calibrated probability in `[0, 1]`; `None` where the package has no calibration for it.
    pub score: Option<f32>,
    /// Cosine similarity in `[-1, 1]`; of a parent, the best of its labels.
    pub similarity: f32,
}

/// The answer for one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelling {
    /// Labels, best first. Where labels have parents and compete, the first is the answer: the
    /// most specific name that is sure, which is a parent when none of its children stands out;
    /// the others follow by score.
    pub labels: Vec<ScoredLabel>,
    /// Whether no label is believed.
    pub unknown: bool,
}

/// The answer from one similarity and one score a label, in the order of the set.
///
/// `rival` is the best score of what is not shown: with no threshold of the user's, a label
/// is believed when it beats that.
pub(super) fn answer(
    tree: &Tree,
    options: &ScoreOptions,
    similarities: &[f32],
    scores: &[Option<f32>],
    rival: f32,
) -> Labelling {
    let nodes = tree.nodes();
    let scores: Vec<Option<f32>> =
        nodes.iter().map(|node| joint_score(options, node, scores)).collect();
    let similarity =
        |node: &Node| node.members.iter().map(|&member| similarities[member]).fold(-1.0, f32::max);
    let similarities: Vec<f32> = nodes.iter().map(similarity).collect();
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    let depth = |node: usize| if options.multi { tree.depth(node) } else { 0 };
    order.sort_by(|&a, &b| {
        let score = |node: usize| scores[node].unwrap_or(0.0);
        (score(b).total_cmp(&score(a)))
            .then_with(|| depth(b).cmp(&depth(a)))
            .then(similarities[b].total_cmp(&similarities[a]))
    });
    let threshold = options.threshold.unwrap_or(rival);
    let believed = |node: usize| scores[node].is_none_or(|score| score >= threshold);
    let unknown = !(0..nodes.len()).any(believed);
    if let Some(answer) = settled(tree, options, &scores, &believed) {
        order.retain(|&node| node != answer);
        order.insert(0, answer);
    }
    if options.threshold.is_some() {
        order.retain(|&node| believed(node));
    }
    let label = |&node: &usize| ScoredLabel {
        name: nodes[node].name.clone(),
        parent: nodes[node].parent.map(|parent| nodes[parent].name.clone()),
        score: scores[node],
        similarity: similarities[node],
    };
    Labelling { labels: order.iter().take(options.top).map(label).collect(), unknown }
}

/// Where labels compete and have parents, the answer: as far down from the best of the topmost
/// names as is sure. A child is sure when it is believed and, unless the user set a
/// threshold, is twice as probable as everything else that its parent may be.
fn settled(
    tree: &Tree,
    options: &ScoreOptions,
    scores: &[Option<f32>],
    believed: &dyn Fn(usize) -> bool,
) -> Option<usize> {
    if options.multi || !tree.has_parents() {
        return None;
    }
    let scores: Vec<f32> = scores.iter().map(|score| score.unwrap_or(0.0)).collect();
    let stands_out = |child: usize, parent: usize| {
        options.threshold.is_some() || scores[child] * 1.5 >= scores[parent]
    };
    tree.descend(&scores, |child, parent| believed(child) && stands_out(child, parent))
}

/// Competing labels exclude each other, so a parent's probability is the sum of its labels';
/// independent ones may all be there, so it is the best of them.
fn joint_score(options: &ScoreOptions, node: &Node, scores: &[Option<f32>]) -> Option<f32> {
    let members = node.members.iter().map(|&member| scores[member]);
    let joined = if options.multi {
        members.reduce(|a, b| Some(a?.max(b?)))
    } else {
        members.reduce(|a, b| Some(a? + b?))
    };
    joined.flatten().map(|score| score.min(1.0))
}
