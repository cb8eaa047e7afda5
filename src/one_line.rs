//! Text of a file on one line of a terminal.

/// What a message may repeat of a file: line ends become " | ", other control characters, which
/// could steer a terminal, are written as escapes.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\n' => line.push_str(" | "),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Rules;
    use crate::{LabelSet, Manifest};

    #[test]
    fn lines_are_joined_and_escapes_shown() {
        assert_eq!(one_line("a\n  b\r\x1b[2J ü\n"), "a |   b\\r\\u{1b}[2J ü");
    }

    /// A fuzzer found the second of these in rules.
    #[test]
    fn errors_of_text_files_are_one_line() {
        let files = [
            "format = 1\n\u{0}\n",
            "[[rule]]\nlabel = 'a'\n\u{0}",
            "\"a\\nb\" = 3",
            "[[rule]]\n\"a\\nb\" = 3",
            "[[rule]]\nlabel = 'a'\nprint = true\nthreshold = '\u{1b}'",
            "templates = [\"a\\nb\"]",
            "[[label]]\nname = \"a\\nb\"\nparent = \"a\\nb\"",
            "[[label]]\nname = \"a\\nb\"\nparent = \"a\\n < b\"",
        ];
        for text in files {
            let errors = [
                Manifest::parse(text, "f").err().map(|e| e.to_string()),
                LabelSet::from_toml(text, "f").err().map(|e| e.to_string()),
                Rules::parse(text, "f").err().map(|e| e.to_string()),
            ];
            for error in errors.into_iter().flatten() {
                assert!(!error.chars().any(char::is_control), "{text:?}: {error:?}");
            }
        }
    }
}
