//! Plots as inline SVG.

use plotters::prelude::*;

use crate::space::geometry::Histogram;

const SIZE: (u32, u32) = (640, 280);

/// Two histograms over each other, as shares of their values; empty when drawing fails.
pub(super) fn histograms(matching: &Histogram, random: &Histogram) -> String {
    let share = |histogram: &Histogram| -> Vec<(f64, f64)> {
        let total: usize = histogram.counts.iter().sum();
        let width = (histogram.high - histogram.low) / histogram.counts.len() as f64;
        let bar = |(bin, count): (usize, &usize)| {
            let share = *count as f64 / total.max(1) as f64;
            (histogram.low + (bin as f64 + 0.5) * width, share)
        };
        histogram.counts.iter().enumerate().map(bar).collect()
    };
    let (a, b) = (share(random), share(matching));
    let top = a.iter().chain(&b).map(|(_, share)| *share).fold(0.0, f64::max);
    let series = [(a, RGBColor(120, 120, 120)), (b, RGBColor(0, 114, 178))];
    lines("similarity", "share of pairs", random.low..random.high, top * 1.05, &series)
}

/// Cumulative share of variance over directions.
pub(super) fn variance(shares: &[f64]) -> String {
    let mut sum = 0.0;
    let points: Vec<(f64, f64)> = shares
        .iter()
        .enumerate()
        .map(|(place, share)| {
            sum += share;
            ((place + 1) as f64, sum)
        })
        .collect();
    let end = points.len() as f64;
    let series = [(points, RGBColor(0, 114, 178))];
    lines("directions kept", "share of variance", 0.0..end, 1.0, &series)
}

fn lines(
    across: &str,
    up: &str,
    range: std::ops::Range<f64>,
    top: f64,
    series: &[(Vec<(f64, f64)>, RGBColor)],
) -> String {
    let mut svg = String::new();
    let drawn = draw(&mut svg, across, up, range, top, series);
    if drawn.is_ok() { svg } else { String::new() }
}

fn draw(
    svg: &mut String,
    across: &str,
    up: &str,
    range: std::ops::Range<f64>,
    top: f64,
    series: &[(Vec<(f64, f64)>, RGBColor)],
) -> Result<(), Box<dyn std::error::Error>> {
    let wide = range.end - range.start > 10.0;
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(range, 0.0..top.max(1e-9))?;
    // Rounded first, so that no zero is "-0.0".
    let digits = if wide { 0 } else { 1 };
    let round = |x: &f64| format!("{:.digits$}", (x * 10.0).round() / 10.0 + 0.0);
    chart
        .configure_mesh()
        .x_desc(across)
        .y_desc(up)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .x_label_formatter(&round)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (points, colour) in series {
        let line = points.iter().copied();
        chart.draw_series(AreaSeries::new(line, 0.0, colour.mix(0.25)).border_style(colour))?;
    }
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}
