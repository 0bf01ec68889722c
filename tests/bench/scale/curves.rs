//! Curves as SVG, by the plotters crate.
//!
//! One file for each, so that a part that is repeated draws its own anew and leaves the others.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;

/// Points of a curve, by its name.
pub(crate) type Curve = (String, Vec<(f64, f64)>);

/// A chart; its first axis is logarithmic.
pub(crate) struct Chart {
    /// Name of the file, without its end.
    pub(crate) file: &'static str,
    /// What it shows.
    pub(crate) title: &'static str,
    /// What is varied.
    pub(crate) x: &'static str,
    /// What is measured.
    pub(crate) y: &'static str,
    /// The curves.
    pub(crate) curves: Vec<Curve>,
}

impl Chart {
    /// Writes it to `docs/curves`.
    pub(crate) fn draw(&self) -> anyhow::Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/curves");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let file = folder.join(format!("{}.svg", self.file));
        // Of the drawing's errors only the text can leave this function.
        self.draw_to(&file).map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))?;
        eprintln!("  {}", file.display());
        Ok(())
    }

    fn draw_to(&self, file: &Path) -> Result<(), Box<dyn std::error::Error + '_>> {
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let least = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let most = points().map(|(x, _)| *x).fold(0.0, f64::max);
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.15;
        let area = SVGBackend::new(file, (640, 360)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((least..most * 1.01).log_scale(), 0.0..top.max(1e-9))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .label_style(("sans-serif", 13))
            .draw()?;
        for (number, (name, points)) in self.curves.iter().enumerate() {
            let color = Palette99::pick(number).to_rgba();
            let line = chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
            line.label(name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
        }
        if self.curves.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .label_font(("sans-serif", 13))
                .draw()?;
        }
        area.present()?;
        Ok(())
    }
}

/// A number as people write it: 1.5, 100, 10k, 5M.
fn short(number: f64) -> String {
    let (value, unit) = match number {
        _ if number >= 1e6 => (number / 1e6, "M"),
        _ if number >= 1e4 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}
