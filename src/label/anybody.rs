//! Whom one means by "a person".

/// Names, without an article, that mean anybody.
const ANYBODY: [&str; 9] =
    ["person", "persons", "people", "human", "humans", "somebody", "someone", "anybody", "anyone"];

/// Whether a name means anybody. A model that learnt from captions knows such names badly: people
/// write of men, women and children.
pub(crate) fn is_anybody(name: &str) -> bool {
    let name = name.trim().to_lowercase();
    let bare = name.strip_prefix("a ").or(name.strip_prefix("any ")).unwrap_or(&name);
    ANYBODY.contains(&bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybody_is_nobody_in_particular() {
        assert!([" Person", "a human", "any person", "People"].iter().all(|name| is_anybody(name)));
        assert!(!["man", "personal", "a person in red", ""].iter().any(|name| is_anybody(name)));
    }
}
