//! Does `where` find things: peaks and boxes against annotated ones.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::table::EvalError;
use crate::capped::read_capped;
use crate::space::place::{Region, Spot};

/// Longest accepted file of annotations, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A thing in a picture, as annotated.
#[derive(Debug, Clone, PartialEq)]
pub struct Thing {
    /// The picture's file name.
    pub file: String,
    /// The category's name.
    pub category: String,
    /// Left, top, width and height in pixels.
    pub frame: [f64; 4],
}

#[derive(Deserialize)]
struct Instances {
    images: Vec<ImageEntry>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    area: f64,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

/// Reads annotations in COCO's "instances" format and keeps the largest thing of each category
/// in each picture (crowds left out), by picture and category.
///
/// # Errors
/// [`EvalError::Unreadable`], [`EvalError::NotText`] (too large or no such JSON) or
/// [`EvalError::Empty`].
pub fn read_instances(path: &Path) -> Result<Vec<Thing>, EvalError> {
    let file = path.display().to_string();
    let unreadable = |reason| EvalError::Unreadable { file: file.clone(), reason };
    let Some(bytes) = read_capped(path, MAX_BYTES).map_err(unreadable)? else {
        return Err(EvalError::NotText { file });
    };
    let instances: Instances = serde_json::from_slice(&bytes)
        .map_err(|e| EvalError::Instances { file: file.clone(), reason: e.to_string() })?;
    let names: BTreeMap<u64, &str> =
        instances.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let files: BTreeMap<u64, &str> =
        instances.images.iter().map(|i| (i.id, i.file_name.as_str())).collect();
    let mut largest: BTreeMap<(&str, &str), &Annotation> = BTreeMap::new();
    for annotation in instances.annotations.iter().filter(|a| a.iscrowd == 0) {
        let (Some(file), Some(name)) =
            (files.get(&annotation.image_id), names.get(&annotation.category_id))
        else {
            continue;
        };
        let entry = largest.entry((file, name)).or_insert(annotation);
        if annotation.area > entry.area {
            *entry = annotation;
        }
    }
    let thing = |((file, category), a): (&(&str, &str), &&Annotation)| Thing {
        file: (*file).to_owned(),
        category: (*category).to_owned(),
        frame: a.bbox,
    };
    let things: Vec<Thing> = largest.iter().map(thing).collect();
    if things.is_empty() { Err(EvalError::Empty { file }) } else { Ok(things) }
}

/// Counts finds one by one.
#[derive(Debug, Clone, Default)]
pub struct PlaceTally {
    things: usize,
    peaks: usize,
    centres: usize,
    overlap: f64,
    whole: f64,
}

/// What `eval where` reports. Shares are in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlaceReport {
    /// Things looked for.
    pub n: usize,
    /// Pictures that could not be read.
    pub failed: usize,
    /// Share of things with the map's peak inside of their annotated box.
    pub peak_in_box: f64,
    /// Share with the picture's centre in it: what always answering "the middle" would get.
    pub centre_in_box: f64,
    /// Mean intersection over union of found and annotated boxes.
    pub mean_overlap: f64,
    /// The same of the whole picture as the answer.
    pub whole_overlap: f64,
}

impl PlaceTally {
    /// Counts one thing: its picture's size, its annotated frame, and what was found.
    pub fn add(&mut self, picture: [u32; 2], frame: [f64; 4], peak: Spot, region: Region) {
        let [left, top, width, height] = frame;
        let inside = |x: f64, y: f64| {
            (left..=left + width).contains(&x) && (top..=top + height).contains(&y)
        };
        let [across, down] = picture.map(f64::from);
        self.things += 1;
        self.peaks += usize::from(inside(f64::from(peak.x) + 0.5, f64::from(peak.y) + 0.5));
        self.centres += usize::from(inside(across / 2.0, down / 2.0));
        let found = [region.x, region.y, region.width, region.height].map(f64::from);
        self.overlap += overlap(frame, found);
        self.whole += overlap(frame, [0.0, 0.0, across, down]);
    }

    /// The report over everything counted.
    pub fn report(&self, failed: usize) -> PlaceReport {
        let n = self.things.max(1) as f64;
        PlaceReport {
            n: self.things,
            failed,
            peak_in_box: self.peaks as f64 / n,
            centre_in_box: self.centres as f64 / n,
            mean_overlap: self.overlap / n,
            whole_overlap: self.whole / n,
        }
    }
}

/// Intersection over union of two frames (left, top, width, height).
fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let along = |axis: usize| {
        let start = a[axis].max(b[axis]);
        ((a[axis] + a[axis + 2]).min(b[axis] + b[axis + 2]) - start).max(0.0)
    };
    let shared = along(0) * along(1);
    let union = a[2] * a[3] + b[2] * b[3] - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        let mut tally = PlaceTally::default();
        let region = Region { x: 0, y: 0, width: 50, height: 100 };
        tally.add([100, 100], [0.0, 0.0, 100.0, 100.0], Spot { x: 10, y: 90 }, region);
        tally.add([100, 100], [80.0, 80.0, 10.0, 10.0], Spot { x: 10, y: 90 }, region);
        let report = tally.report(0);
        assert_eq!((report.n, report.peak_in_box, report.centre_in_box), (2, 0.5, 0.5));
        assert!((report.mean_overlap - 0.25).abs() < 1e-9);
        assert!((report.whole_overlap - 0.505).abs() < 1e-9);
    }

    #[test]
    fn the_largest_of_each_category_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instances.json");
        let box_of = |area: u32, crowd: u8| {
            format!(
                r#"{{"image_id":1,"category_id":7,"bbox":[0,0,{area},1],"area":{area},"iscrowd":{crowd}}}"#
            )
        };
        let annotations = [box_of(3, 0), box_of(5, 0), box_of(9, 1)].join(",");
        let text = format!(
            r#"{{"images":[{{"id":1,"file_name":"a.jpg"}}],"categories":[{{"id":7,"name":"cat"}}],"annotations":[{annotations}]}}"#
        );
        std::fs::write(&path, text).unwrap();
        let things = read_instances(&path).unwrap();
        assert_eq!((things.len(), things[0].frame[2]), (1, 5.0));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(read_instances(&path), Err(EvalError::Instances { .. })));
    }
}
