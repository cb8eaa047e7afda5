//! The report as one HTML page.

use std::fmt::Write;

use super::explain::explanation;
use super::{Figure, Report, Verdict, plots};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
h1{font-size:1.6rem;overflow-wrap:anywhere}h2{font-size:1.2rem;margin-top:2rem}h2::first-letter{text-transform:uppercase}\
table{border-collapse:collapse;width:100%}.figures td:first-child{width:11rem}.figures td.n{width:6rem}\
td,th{padding:.4rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}\
td.n{font-variant-numeric:tabular-nums;white-space:nowrap;font-weight:600}\
.good{color:#00795a}.fair{color:#8a5a00}.bad{color:#b3261e}.neutral{color:#444}\
small{color:#666;display:block}code{font-size:.95em;background:#f2f2f2;padding:0 .2em}svg{max-width:100%;height:auto}\
@media(max-width:40rem){.figures td{display:block;border:0;padding:.1rem 0}.figures td:last-child{border-bottom:1px solid #ddd;padding-bottom:.6rem}.figures td:first-child,.figures td.n{width:auto}}";

pub(super) fn page(report: &Report) -> String {
    let subject = escape(&report.subject);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Space report: {subject}</title><style>{STYLE}</style></head><body>\
         <h1>Space report: {subject}</h1><p>{}, {} numbers each; space {}. \
         Figures are of at most {} rows of a kind, sampled with seed {}.</p>",
        report.contents(),
        report.dimension,
        escape(&report.space),
        report.sampled,
        report.seed,
    );
    if let Some(remark) = report.remark() {
        let _ = write!(page, "<p>{}</p>", escape(&remark));
    }
    summary(&mut page, report);
    if let (Some(matching), Some(random)) = (&report.matching, &report.random) {
        let _ = write!(
            page,
            "<h2>Matching and random pairs</h2><p>Similarities of matching pairs (blue, mean \
             {:.3}) and of random ones (grey, mean {:.3}). The less they overlap, the better.</p>{}",
            matching.mean,
            random.mean,
            plots::histograms(matching, random)
        );
    }
    for (of, figures) in report.groups() {
        table(&mut page, of, &figures);
    }
    if !report.confusions.is_empty() {
        confusions(&mut page, report);
    }
    if !report.variance.is_empty() {
        let _ = write!(
            page,
            "<h2>Variance</h2><p>How much of the variance the first directions carry: where the \
             curve is flat, shorter rows lose nothing.</p>{}",
            plots::variance(&report.variance)
        );
    }
    page.push_str("</body></html>\n");
    page
}

fn summary(page: &mut String, report: &Report) {
    let bad: Vec<&Figure> =
        report.figures.iter().filter(|figure| figure.verdict == Verdict::Bad).collect();
    if report.figures.iter().all(|figure| figure.verdict == Verdict::Neutral) {
        return;
    }
    if bad.is_empty() {
        page.push_str("<p class=\"good\">Nothing looks bad by the rules of thumb used here.</p>");
        return;
    }
    page.push_str("<h2>What to mend</h2><ul>");
    for figure in bad {
        let _ = write!(
            page,
            "<li><b class=\"bad\">{}</b> ({}): {}</li>",
            escape(figure.title()),
            figure.of,
            prose(figure.advice())
        );
    }
    page.push_str("</ul>");
}

fn table(page: &mut String, of: &str, figures: &[&Figure]) {
    let _ = write!(page, "<h2>{of}</h2><table class=\"figures\">");
    for figure in figures {
        let when = match explanation(figure.key).bounds {
            None => "What to do about it",
            Some(_) => "If it is bad",
        };
        // The word stands beside the colour, which not everyone sees.
        let (class, verdict) = match figure.verdict {
            Verdict::Good => ("good", "good"),
            Verdict::Fair => ("fair", "fair"),
            Verdict::Bad => ("bad", "bad"),
            Verdict::Neutral => ("neutral", ""),
        };
        let value = match (figure.value, &figure.reason) {
            (Some(value), _) => format!("{value:.3}"),
            (None, Some(_)) => "no value".to_owned(),
            (None, None) => String::new(),
        };
        let reason = figure.reason.as_ref().map(|r| format!("<small>Why: {}</small>", escape(r)));
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"n {class}\">{value} <small>{verdict}</small></td><td>{}{}<small>Source: {}</small>\
             <small>{when}: {}</small></td></tr>",
            escape(figure.title()),
            prose(figure.meaning()),
            reason.unwrap_or_default(),
            escape(figure.source()),
            prose(figure.advice())
        );
    }
    page.push_str("</table>");
}

fn confusions(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Names too close</h2><table><tr><th>name</th><th>name</th><th>similarity</th></tr>",
    );
    for pair in &report.confusions {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{:.3}</td></tr>",
            escape(&pair.first),
            escape(&pair.second),
            pair.similarity
        );
    }
    page.push_str("</table>");
}

/// Text of our own, with what stands between backticks as code.
fn prose(text: &str) -> String {
    let part = |(place, part): (usize, &str)| match place % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    text.split('`').enumerate().map(part).collect()
}

/// Names and paths come from outside and must not become markup.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}
