//! What a source is called where others may read it: on the live page, in the index.

/// The source without the password that an address may hold, on one line and not too long.
pub fn without_password(source: &str) -> String {
    let shown = match source.split_once("://") {
        Some((scheme, rest)) => {
            let host_end = rest.find('/').unwrap_or(rest.len());
            let after = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[after..])
        }
        None => source.to_owned(),
    };
    shown.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_without_its_password() {
        assert_eq!(without_password("rtsp://me:p@ss@cam:554/a@b"), "rtsp://cam:554/a@b");
        assert_eq!(without_password("rtsp://cam/x"), "rtsp://cam/x");
        assert_eq!(without_password("a@b.mp4\n"), "a@b.mp4");
    }
}
