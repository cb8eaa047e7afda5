//! Search results as one HTML page, with the pictures in it.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rayon::prelude::*;
use sextant::{DecodeLimits, Modality, decode_file};

use super::moment;
use super::query::path_of;
use super::row::{shown_key, shown_tags};
use super::search::Found;
use super::thumbnail;

/// Longest side of a picture on the sheet: sharp on screens of two pixels to a point.
const SIDE: u32 = 480;
/// JPEG quality of the pictures on the sheet.
const QUALITY: u8 = 80;

/// How the page looks, on paper, in the light and in the dark.
const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; }
h1 { font-size: 1.3rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
p { margin: 0 0 1.2rem; opacity: .7; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem;
  list-style: none; margin: 0; padding: 0; }
li { border: 1px solid #8886; border-radius: .5rem; overflow: hidden; break-inside: avoid; }
.picture { display: flex; align-items: center; justify-content: center; height: 12rem;
  background: #8882; text-align: center; }
.picture a { width: 100%; height: 100%; }
.picture img { width: 100%; height: 100%; object-fit: contain; display: block; }
.none { padding: 1rem; opacity: .7; overflow-wrap: anywhere; }
.text { padding: .6rem .8rem; }
.numbers { display: flex; gap: .8rem; font-variant-numeric: tabular-nums; }
.numbers b { font-size: 1.05em; }
.bar { height: .25rem; background: #8883; } .bar i { display: block; height: 100%; background: #2a7de1; }
.key { overflow-wrap: anywhere; font-size: .87em; }
.more { font-size: .8em; opacity: .7; overflow-wrap: anywhere; }
";

/// What the page says above the results.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// The query as it was typed.
    pub query: String,
    /// The index that was searched.
    pub index: String,
    /// Its folder, which may hold thumbnails of rows that are no files.
    pub folder: &'a Path,
    /// Rows in it.
    pub rows: u32,
    /// How large a picture may be that is read for the sheet.
    pub limits: &'a DecodeLimits,
}

impl Sheet<'_> {
    /// The page as a whole.
    pub fn page(&self, found: &[Found]) -> String {
        let cards: Vec<String> = found.par_iter().map(|found| self.card(found)).collect();
        let (query, index, rows) = (escape(&self.query), escape(&self.index), self.rows);
        let results = found.len();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{query}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <h1>{query}</h1>\n<p>{results} of {rows} rows of {index}</p>\n<ol>\n{}</ol>\n\
             </body>\n</html>\n",
            cards.concat()
        )
    }

    fn card(&self, found: &Found) -> String {
        let Found { rank, entry, score, similarity } = found;
        let key = escape(&shown_key(&entry.key));
        let mut card = format!("<li><div class=\"picture\">{}</div>", self.picture(found, &key));
        if let Some(score) = score {
            let percent = (score * 100.0).clamp(0.0, 100.0);
            let _ = write!(card, "<div class=\"bar\"><i style=\"width:{percent:.0}%\"></i></div>");
        }
        let _ = write!(card, "<div class=\"text\"><div class=\"numbers\"><b>{rank}</b>");
        if let Some(score) = score {
            let _ = write!(card, "<span>score {score:.2}</span>");
        }
        let _ = write!(card, "<span>similarity {similarity:.3}</span></div>");
        let _ = write!(card, "<div class=\"key\">{key}</div>");
        let time = entry.time.map(moment::shown);
        let tags = (!entry.tags.is_empty()).then(|| shown_tags(&entry.tags));
        for more in [time, tags].into_iter().flatten() {
            let _ = write!(card, "<div class=\"more\">{}</div>", escape(&more));
        }
        card.push_str("</div></li>\n");
        card
    }

    /// The picture behind a row, or why there is none to see.
    fn picture(&self, found: &Found, key: &str) -> String {
        let is_image = found.entry.modality == Modality::Image;
        let path = path_of(&found.entry.key).filter(|_| is_image);
        if let Some(jpeg) = thumbnail::read(self.folder, &found.entry.key).filter(|_| is_image) {
            let data = BASE64_STANDARD.encode(jpeg);
            return format!("<img alt=\"{key}\" src=\"data:image/jpeg;base64,{data}\">");
        }
        let Some(path) = path else { return format!("<div class=\"none\">{key}</div>") };
        match self.thumbnail(&path) {
            Ok(jpeg) => {
                let data = BASE64_STANDARD.encode(jpeg);
                let image = format!("<img alt=\"{key}\" src=\"data:image/jpeg;base64,{data}\">");
                match file_link(&path) {
                    Some(link) => format!("<a href=\"{link}\">{image}</a>"),
                    None => image,
                }
            }
            Err(reason) => format!("<div class=\"none\">{}</div>", escape(&reason)),
        }
    }

    fn thumbnail(&self, path: &Path) -> Result<Vec<u8>, String> {
        let picture = decode_file(path, self.limits).map_err(|e| e.to_string())?;
        thumbnail::jpeg(&picture, SIDE, QUALITY).map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// The address of a file for a browser on this machine.
fn file_link(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let mut link = "file://".to_owned();
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                link.push(char::from(byte));
            }
            _ => {
                let _ = write!(link, "%{byte:02X}");
            }
        }
    }
    Some(link)
}

/// Text as it may stand in HTML, in attributes too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_their_place() {
        assert_eq!(
            escape("<a href='x'>&\"</a>"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;"
        );
        let link = file_link(Path::new("/a b/\"<ü>.jpg")).unwrap();
        assert_eq!(link, "file:///a%20b/%22%3C%C3%BC%3E.jpg");
    }
}
