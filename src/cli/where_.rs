//! `sextant where`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use image::RgbImage;
use serde::Serialize;
use sextant::picture::{Picture, Pixels};
use sextant::space::place::{
    COARSE_SCALES, Finder, HeatMap, PlaceFeatures, Region, SCALES, Spot, draw_heat, draw_segments,
    segment_colour, segments,
};
use sextant::{Encoder, TextCache, decode_file};

use super::output::{complain, json_line, six_digits, stdout};
use super::{Failure, Format, Global, Outcome};

/// Arguments of `where`.
#[derive(Debug, Args)]
pub struct WhereArgs {
    /// The picture
    image: PathBuf,
    /// What to look for; several texts divide the picture among them
    #[arg(required = true, value_name = "TEXT", value_parser = super::some_text)]
    texts: Vec<String>,
    /// Write the picture with the heat map (or, for several texts, coloured parts) as PNG
    #[arg(short, long, value_name = "FILE.png")]
    output: Option<PathBuf>,
    /// Look once at the whole instead of at parts: many times as fast, less exact
    #[arg(long)]
    coarse: bool,
    /// How far from the surroundings' level to the peak the box reaches (0 to 1)
    #[arg(long, value_name = "SHARE", default_value_t = BOX_SHARE, value_parser = parse_share)]
    level: f32,
}

/// Level of boxes; chosen on pasted objects whose place was known.
pub const BOX_SHARE: f32 = 0.4;

fn parse_share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a level lies between 0 and 1".to_owned()),
    }
}

#[derive(Serialize)]
struct WhereLine<'a> {
    source: String,
    text: &'a str,
    /// Similarity of the whole picture to the text.
    similarity: f64,
    /// Calibrated probability that picture and text match; null without calibration.
    score: Option<f64>,
    peak: Spot,
    #[serde(rename = "box")]
    region: Region,
    /// Share of the picture that goes to this text, when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
}

/// Runs the command.
pub fn run(args: &WhereArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let encoder = global.encoder()?;
    check_places(&encoder)?;
    let source = args.image.display().to_string();
    let picture = match decode_file(&args.image, encoder.limits()) {
        Ok(picture) => picture,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Outcome { failed: 1 });
        }
    };
    let unfit = |e: sextant::EncodeError| Failure::Unfit(e.to_string());
    let scales = if args.coarse { &COARSE_SCALES[..] } else { &SCALES[..] };
    let finder = finder(&encoder, &args.texts)?;
    let features = PlaceFeatures::new(&encoder, &picture, &source, scales).map_err(unfit)?;
    let whole = encoder.image(&picture, &source).map_err(unfit)?;
    let maps = finder.maps(&features).expect("one encoder has one space");
    let parts = (maps.len() > 1).then(|| segments(&maps, args.level));
    let mut out = stdout();
    for (place, (text, map)) in finder.texts().iter().zip(&maps).enumerate() {
        let similarity = whole.similarity(text).expect("one encoder has one space");
        let score = sextant::match_probability(encoder.package().manifest(), &whole, text);
        let share = parts.as_ref().map(|parts| {
            let own = parts.iter().filter(|part| **part == Some(place)).count();
            own as f64 / parts.len() as f64
        });
        let line = WhereLine {
            source: source.clone(),
            text: &args.texts[place],
            similarity: six_digits(similarity),
            score: score.map(six_digits),
            peak: map.peak().0,
            region: map.region(args.level),
            share,
        };
        print(&mut out, &line, place, global.format)?;
    }
    out.flush()?;
    match &args.output {
        Some(path) => write_drawing(path, &picture, &maps, parts.as_deref(), args.level),
        None => Ok(Outcome::default()),
    }
}

fn print(
    out: &mut impl Write,
    line: &WhereLine<'_>,
    place: usize,
    format: Format,
) -> std::io::Result<()> {
    if format == Format::Json {
        return json_line(out, line);
    }
    let Region { x, y, width, height } = line.region;
    write!(out, "{}: peak at {}, {}", line.text, line.peak.x, line.peak.y)?;
    write!(out, "; box {width}×{height} at {x}, {y}")?;
    if let Some(share) = line.share {
        let [red, green, blue] = segment_colour(place);
        write!(out, "; {:.0} % of the picture (#{red:02x}{green:02x}{blue:02x})", share * 100.0)?;
    }
    match line.score {
        Some(score) => writeln!(out, "; in the picture with probability {score:.2}"),
        None => writeln!(out, "; similarity {:.3}", line.similarity),
    }
}

/// Refuses packages without a spatial output before any picture is read.
pub fn check_places(encoder: &Encoder) -> Result<(), Failure> {
    let manifest = encoder.package().manifest();
    if manifest.image.spatial.is_some() {
        return Ok(());
    }
    Err(Failure::Unfit(format!(
        "model \"{}\" declares no spatial output, so it cannot say where: use a model whose `sextant model info` says \"places: yes\"",
        manifest.name
    )))
}

/// Embeds texts to look for, with the cache.
pub fn finder(encoder: &Encoder, texts: &[String]) -> Result<Finder, Failure> {
    let mut cache = TextCache::open(encoder.space(), encoder.package().manifest().dimension);
    let finder =
        Finder::new(encoder, texts, &mut cache).map_err(|e| Failure::Unfit(e.to_string()))?;
    // A cache that cannot be written costs time only.
    let _ = cache.flush();
    Ok(finder)
}

fn write_drawing(
    path: &Path,
    picture: &Picture,
    maps: &[HeatMap],
    parts: Option<&[Option<usize>]>,
    level: f32,
) -> Result<Outcome, Failure> {
    let mut drawing = drawing(picture);
    match parts {
        Some(parts) => draw_segments(&mut drawing, &maps[0], parts),
        None => draw_heat(&mut drawing, &maps[0], maps[0].region(level), maps[0].peak().0),
    }
    match drawing.save_with_format(path, image::ImageFormat::Png) {
        Ok(()) => Ok(Outcome::default()),
        Err(error) => {
            complain(&format!("{}: cannot write the drawing: {error}", path.display()));
            Ok(Outcome { failed: 1 })
        }
    }
}

/// The picture to draw on; what is transparent becomes white.
fn drawing(picture: &Picture) -> RgbImage {
    let bytes = match picture.pixels() {
        Pixels::Rgba(bytes) => {
            let over = |pixel: &[u8; 4]| {
                let [colour @ .., opacity] = *pixel;
                colour.map(|c| {
                    let (c, a) = (u32::from(c), u32::from(opacity));
                    ((c * a + 255 * (255 - a) + 127) / 255) as u8
                })
            };
            bytes.as_chunks::<4>().0.iter().flat_map(over).collect()
        }
        pixels => pixels.bytes().to_vec(),
    };
    RgbImage::from_raw(picture.width(), picture.height(), bytes)
        .expect("a picture holds three bytes a pixel")
}
