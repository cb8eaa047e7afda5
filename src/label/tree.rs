//! Labels as a tree: which count towards which, and how far down an answer can be trusted.

use std::collections::{HashMap, HashSet};

use super::compiled::LabelName;

/// Why parents do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TreeFault {
    /// A label is its own ancestor.
    Cycle(String),
    /// A label has more than [`MAX_DEPTH`] ancestors.
    Deep(String),
    /// A hidden label has or is a parent.
    Hidden(String),
}

impl std::fmt::Display for TreeFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cycle(name) => write!(f, "label \"{name}\" is its own ancestor"),
            Self::Deep(name) => {
                write!(f, "label \"{name}\" has more than the limit of {MAX_DEPTH} ancestors")
            }
            Self::Hidden(name) => {
                write!(f, "hidden label \"{name}\" can neither have a parent nor be one")
            }
        }
    }
}

/// A name that is shown: a label, or the common parent of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub name: String,
    /// Place of the parent among the nodes.
    pub parent: Option<usize>,
    /// Places of the labels that count towards it: its own and all below it.
    pub members: Vec<usize>,
}

/// The shown names of a label set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Places of the children of each node.
    children: Vec<Vec<usize>>,
}

impl Tree {
    /// Labels first, in their order, then parents that are no labels themselves.
    pub fn new(labels: &[LabelName]) -> Result<Self, TreeFault> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let add = |name: &str, nodes: &mut Vec<Node>| -> usize {
            nodes.push(Node { name: name.to_owned(), parent: None, members: Vec::new() });
            nodes.len() - 1
        };
        for (member, label) in labels.iter().enumerate().filter(|(_, label)| !label.negative) {
            let place = *places.entry(&label.name).or_insert_with(|| add(&label.name, &mut nodes));
            nodes[place].members.push(member);
        }
        let hidden: HashSet<&str> =
            labels.iter().filter(|label| label.negative).map(|label| label.name.as_str()).collect();
        for label in labels {
            let Some(parent) = label.parent.as_deref() else { continue };
            if label.negative {
                return Err(TreeFault::Hidden(label.name.clone()));
            }
            if hidden.contains(parent) {
                return Err(TreeFault::Hidden(parent.to_owned()));
            }
            let above = *places.entry(parent).or_insert_with(|| add(parent, &mut nodes));
            nodes[places[label.name.as_str()]].parent = Some(above);
        }
        let mut tree = Self { children: vec![Vec::new(); nodes.len()], nodes };
        tree.gather()?;
        Ok(tree)
    }

    /// Gives each node the labels below it.
    fn gather(&mut self) -> Result<(), TreeFault> {
        let own: Vec<Vec<usize>> = self.nodes.iter().map(|node| node.members.clone()).collect();
        for (start, members) in own.iter().enumerate() {
            let mut at = start;
            let mut steps = 0;
            while let Some(above) = self.nodes[at].parent {
                steps += 1;
                if steps > MAX_DEPTH || above == start {
                    return Err(self.endless(start));
                }
                self.nodes[above].members.extend(members);
                at = above;
            }
            if let Some(parent) = self.nodes[start].parent {
                self.children[parent].push(start);
            }
        }
        Ok(())
    }

    /// Why the way up from `start` is longer than any that is allowed.
    fn endless(&self, start: usize) -> TreeFault {
        let above = |&at: &usize| self.nodes[at].parent;
        let way = std::iter::successors(Some(start), above).take(self.nodes.len() + 1);
        let name = self.nodes[start].name.clone();
        if way.count() > self.nodes.len() { TreeFault::Cycle(name) } else { TreeFault::Deep(name) }
    }

    /// All shown names.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whether any name has a parent.
    pub fn has_parents(&self) -> bool {
        self.nodes.iter().any(|node| node.parent.is_some())
    }

    /// Number of names above a node.
    pub fn depth(&self, node: usize) -> usize {
        std::iter::successors(self.nodes[node].parent, |&above| self.nodes[above].parent).count()
    }

    /// The most specific name that can be trusted: from the best of the topmost names down to the
    /// best child, as long as `trusts(child, parent)`. `None` without names.
    pub fn descend(&self, score: &[f32], trusts: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let best = |places: &mut dyn Iterator<Item = usize>| {
            places.fold(None, |best: Option<usize>, place| match best {
                Some(best) if score[best] >= score[place] => Some(best),
                _ => Some(place),
            })
        };
        let roots = (0..self.nodes.len()).filter(|&node| self.nodes[node].parent.is_none());
        let mut at = best(&mut { roots })?;
        while let Some(child) = best(&mut self.children[at].iter().copied()) {
            if !trusts(child, at) {
                break;
            }
            at = child;
        }
        Some(at)
    }
}

/// More generations than any sensible label set has.
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, parent: Option<&str>) -> LabelName {
        LabelName { name: name.into(), parent: parent.map(str::to_owned), negative: false }
    }

    fn animals() -> Vec<LabelName> {
        vec![
            label("poodle", Some("dog")),
            label("dog", Some("animal")),
            label("cat", Some("animal")),
            label("car", None),
        ]
    }

    #[test]
    fn members_of_all_generations_count() {
        let tree = Tree::new(&animals()).unwrap();
        let members = |name: &str| {
            let mut members =
                tree.nodes().iter().find(|node| node.name == name).unwrap().members.clone();
            members.sort_unstable();
            members
        };
        assert_eq!(members("animal"), [0, 1, 2]);
        assert_eq!(members("dog"), [0, 1]);
        assert_eq!((members("poodle"), members("car")), (vec![0], vec![3]));
        assert_eq!(tree.depth(0), 2);
        assert!(tree.has_parents() && !Tree::new(&[label("a", None)]).unwrap().has_parents());
    }

    #[test]
    fn an_answer_goes_down_as_far_as_it_is_trusted() {
        let tree = Tree::new(&animals()).unwrap();
        // poodle, dog, cat, car, animal
        let score = [0.3, 0.6, 0.2, 0.2, 0.8];
        let name = |place: Option<usize>| tree.nodes()[place.unwrap()].name.as_str();
        assert_eq!(
            name(tree.descend(&score, |child, above| score[child] * 2.0 > score[above])),
            "dog"
        );
        assert_eq!(name(tree.descend(&score, |child, _| score[child] > 0.7)), "animal");
        assert_eq!(name(tree.descend(&score, |_, _| true)), "poodle");
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let circle = [label("a", Some("b")), label("b", Some("c")), label("c", Some("a"))];
        assert_eq!(Tree::new(&circle), Err(TreeFault::Cycle("a".into())));
        assert!(Tree::new(&[label("a", Some("a"))]).is_err());
        let lasso = [label("a", Some("b")), label("b", Some("c")), label("c", Some("b"))];
        assert_eq!(Tree::new(&lasso), Err(TreeFault::Cycle("a".into())));
        let chain = |length: usize| -> Vec<LabelName> {
            let names = (0..length).map(|i| (format!("l{i}"), format!("l{}", i + 1)));
            names.map(|(name, parent)| label(&name, Some(&parent))).collect()
        };
        assert!(Tree::new(&chain(MAX_DEPTH)).is_ok());
        assert_eq!(Tree::new(&chain(MAX_DEPTH + 1)), Err(TreeFault::Deep("l0".into())));
        let hidden = LabelName { negative: true, ..label("wall", None) };
        assert!(Tree::new(&[label("a", Some("wall")), hidden.clone()]).is_err());
        assert!(Tree::new(&[LabelName { parent: Some("a".into()), ..hidden }]).is_err());
    }
}
