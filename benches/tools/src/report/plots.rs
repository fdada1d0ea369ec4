//! The plots of a report, as SVG by `plotters`.

use std::ops::Range;

use plotters::{
    chart::{ChartBuilder, ChartContext, SeriesLabelPosition},
    coord::{Shift, ranged1d::Ranged},
    prelude::{
        Cartesian2d, Circle, Color as _, DrawingArea, IntoDrawingArea as _, IntoFont as _,
        IntoLogRange as _, LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, Text,
    },
    style::{
        BLACK, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    results::{Results, all_latencies, figure},
    tables::number,
};

const WIDTH: u32 = 960;
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xd9, 0x6a, 0x1d),
    RGBColor(0x2c, 0x94, 0x5a),
    RGBColor(0x8a, 0x4f, 0xb0),
    RGBColor(0xb8, 0x32, 0x4a),
    RGBColor(0x6f, 0x5a, 0x3c),
];
const GREY: RGBColor = RGBColor(0x9a, 0xa4, 0xb0);
const FAINT: RGBColor = RGBColor(0xe4, 0xe8, 0xed);
/// Longest piece of a time line that one point stands for.
const BUCKET_NS: u64 = 25_000_000;

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// All plots that have something to show: their names and texts.
///
/// # Errors
///
/// What the library says.
pub fn all(results: &Results) -> Result<Vec<(&'static str, String)>, String> {
    type Plot = fn(&Results, &mut String) -> Drawn;
    let plots: [(&'static str, Plot); 4] = [
        ("cpu", cpu),
        ("memory", memory),
        ("latency", latency),
        ("storm", storm),
    ];
    let mut drawn = Vec::new();
    for (name, plot) in plots {
        let mut text = String::new();
        plot(results, &mut text).map_err(|error| format!("the plot {name}: {error}"))?;
        drawn.push((name, text));
    }
    Ok(drawn)
}

fn colour(at: usize) -> RGBColor {
    COLOURS[at % COLOURS.len()]
}

/// Bars side by side for each group, on a logarithmic axis. `None` is a bar that failed.
struct Bars {
    caption: &'static str,
    groups: Vec<String>,
    series: Vec<(String, RGBColor, Vec<Option<f64>>)>,
    digits: usize,
}

impl Bars {
    fn draw(&self, text: &mut String) -> Drawn {
        let lanes = self.series.len() + 1;
        let rows = self.groups.len() * lanes;
        let height = 90 + u32::try_from(rows).unwrap_or(0) * 13;
        let root = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let values = self.series.iter().flat_map(|(.., values)| values.iter());
        let values = values.flatten().copied().filter(|&value| value > 0.0);
        let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        // Room to the left, so that the least bar is one, and to the right, for figures and legend.
        let range = match low < high {
            true => low / 2.0..high * 12.0,
            false => high / 2.0..high * 12.0,
        };
        let mut chart = ChartBuilder::on(&root)
            .caption(self.caption, (FONT, 17))
            .margin(8)
            .x_label_area_size(26)
            .y_label_area_size(150)
            .build_cartesian_2d(range.clone().log_scale(), 0.0..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .light_line_style(FAINT)
            .bold_line_style(FAINT)
            .x_label_style((FONT, 12))
            .x_label_formatter(&|value| format!("{value}"))
            .draw()?;
        let label = (FONT, 12).into_font().color(&BLACK);
        let label = label.pos(Pos::new(HPos::Left, VPos::Center));
        for (lane, (name, colour, values)) in self.series.iter().enumerate() {
            // The first group is at the top.
            let bottom = |group: usize| (rows - group * lanes - lane - 1) as f64;
            let bars = values.iter().enumerate().filter_map(|(group, value)| {
                let (begin, y) = ((range.start, bottom(group)), bottom(group) + 0.85);
                let value = value.filter(|&value| value > 0.0);
                value.map(|value| Rectangle::new([begin, (value, y)], colour.filled()))
            });
            let colour = *colour;
            chart.draw_series(bars)?.label(name).legend(move |(x, y)| {
                Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled())
            });
            for (group, value) in values.iter().enumerate() {
                let (at, said) = match value {
                    // Nothing to be shown here.
                    Some(value) if *value <= 0.0 => continue,
                    Some(value) => (*value, number(*value, self.digits)),
                    None => (range.start, "failed".to_owned()),
                };
                let (x, y) = chart.backend_coord(&(at, bottom(group) + 0.42));
                root.draw(&Text::new(said, (x + 4, y), label.clone()))?;
            }
        }
        let right = label.pos(Pos::new(HPos::Right, VPos::Center));
        for (group, name) in self.groups.iter().enumerate() {
            let middle = rows as f64 - group as f64 * lanes as f64 - (lanes as f64 - 1.0) / 2.0;
            let (x, y) = chart.backend_coord(&(range.start, middle));
            root.draw(&Text::new(name.clone(), (x - 8, y), right.clone()))?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperRight)?;
        root.present()?;
        Ok(())
    }
}

/// Whole decades around two values: a logarithmic axis names the ends of decades alone.
fn decades(low: f64, high: f64) -> Range<f64> {
    let (begin, end) = (low.log10().floor(), high.log10().ceil());
    10_f64.powf(begin)..10_f64.powf(end.max(begin + 1.0))
}

fn legend<'a, 'b: 'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Drawn
where
    X: Ranged,
    Y: Ranged,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font((FONT, 13))
        .draw()?;
    Ok(())
}

fn cpu(results: &Results, text: &mut String) -> Drawn {
    let mut series = Vec::new();
    let floor = results.costs.iter();
    let floor = floor.map(|(_, runs, _)| figure(runs, |run| run.cpu_us).median());
    series.push(("floor".to_owned(), GREY, floor.collect()));
    for (at, contender) in results.contenders.iter().enumerate() {
        let values = results.costs.iter();
        let values = values.map(|(.., brokers)| figure(&brokers[at], |run| run.cpu_us).median());
        series.push((contender.name.clone(), colour(at), values.collect()));
    }
    let mut bars = Bars {
        caption: "µs of CPU for each delivered message (logarithmic, less is better)",
        groups: results
            .costs
            .iter()
            .map(|(c, ..)| c.title.clone())
            .collect(),
        series,
        digits: 3,
    };
    // A floor that was not run has not failed.
    bars.series[0].2.iter_mut().for_each(|value| {
        value.get_or_insert(0.0);
    });
    bars.draw(text)
}

fn memory(results: &Results, text: &mut String) -> Drawn {
    let series = |at: usize| {
        let values = [&results.idle, &results.subscribed];
        let values = values.map(|all| figure(&all[at], |idled| idled.bytes).median());
        let name = results.contenders[at].name.clone();
        (name, colour(at), values.to_vec())
    };
    Bars {
        caption: "bytes of resident memory for each connection (logarithmic, less is better)",
        groups: ["idle", "with a subscription"].map(str::to_owned).to_vec(),
        series: (0..results.contenders.len()).map(series).collect(),
        digits: 0,
    }
    .draw(text)
}

/// The share of values that lie beyond, as the axis of a latency plot has it: 2 is one in 100.
fn beyond(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}

fn latency(results: &Results, text: &mut String) -> Drawn {
    const NINES: f64 = 4.0;
    let root = SVGBackend::with_string(text, (WIDTH, 380)).into_drawing_area();
    root.fill(&WHITE)?;
    let curves: Vec<_> = results
        .latencies
        .iter()
        .map(|runs| {
            let all = all_latencies(runs)?;
            let point = |step: u32| {
                let nines = f64::from(step) / 16.0;
                (nines, all.quantile(beyond(nines)).max(1) as f64 / 1e3)
            };
            let steps = 0..=(NINES * 16.0) as u32;
            Some(steps.map(point).collect::<Vec<_>>())
        })
        .collect();
    let all = curves.iter().flatten().flatten().map(|point| point.1);
    let (low, high) = all.fold((f64::MAX, 1.0_f64), |(low, high), us| {
        (low.min(us), high.max(us))
    });
    let mut chart = ChartBuilder::on(&root)
        .caption("latency by percentile, µs (logarithmic)", (FONT, 17))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..NINES, decades(low.min(high), high).log_scale())?;
    let percentile = |nines: &f64| match (nines * 10.0).round() as u32 {
        0 => "least".to_owned(),
        10 => "P90".to_owned(),
        20 => "P99".to_owned(),
        30 => "P99.9".to_owned(),
        40 => "P99.99".to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .x_labels(5)
        .max_light_lines(1)
        .light_line_style(FAINT)
        .bold_line_style(FAINT)
        .label_style((FONT, 12))
        .x_label_formatter(&percentile)
        .y_label_formatter(&|us| format!("{us}"))
        .draw()?;
    for (at, curve) in curves.into_iter().enumerate() {
        let Some(curve) = curve else { continue };
        line(&mut chart, curve, &results.contenders[at].name, colour(at))?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    root.present()?;
    Ok(())
}

fn line<'a, 'b: 'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    points: Vec<(f64, f64)>,
    name: &str,
    colour: RGBColor,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
    Ok(())
}

/// Two panels over one time: clients that are connected, and the prober's worst latencies.
fn storm(results: &Results, text: &mut String) -> Drawn {
    let root = SVGBackend::with_string(text, (WIDTH, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(270);
    let first = |at: usize| results.storms[at].first().and_then(|run| run.as_ref().ok());
    let shown: Vec<_> = (0..results.contenders.len())
        .filter_map(|at| first(at).map(|stormed| (at, stormed)))
        .collect();
    // Seconds from the first connect.
    let since = |at_ns: u64, storm_ns: u64| (at_ns as f64 - storm_ns as f64) / 1e9;
    let ends = shown.iter().map(|(_, s)| since(s.times.end, s.times.storm));
    let begins = shown
        .iter()
        .map(|(_, s)| since(s.times.quiet, s.times.storm));
    let range = begins.fold(0.0, f64::min)..ends.fold(0.1, f64::max);

    let most = shown.iter().flat_map(|(_, s)| s.moments.iter());
    let most = most.map(|moment| moment.connected).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(&above)
        .caption(
            "clients connected, by seconds from the first connect",
            (FONT, 17),
        )
        .margin(8)
        .x_label_area_size(22)
        .y_label_area_size(64)
        .build_cartesian_2d(range.clone(), 0.0..f64::from(most) * 1.1)?;
    chart
        .configure_mesh()
        .max_light_lines(1)
        .light_line_style(FAINT)
        .bold_line_style(FAINT)
        .label_style((FONT, 12))
        .y_label_formatter(&|clients| number(*clients, 0))
        .draw()?;
    for (at, stormed) in &shown {
        let moments = stormed.moments.iter();
        let points = moments.map(|m| {
            let seconds = since(m.at_ns, stormed.times.storm);
            (seconds, f64::from(m.connected))
        });
        let name = &results.contenders[*at].name;
        line(&mut chart, points.collect(), name, colour(*at))?;
    }
    legend(&mut chart, SeriesLabelPosition::MiddleRight)?;

    let worst: Vec<Vec<(f64, f64)>> = shown
        .iter()
        .map(|(_, stormed)| {
            let mut buckets = std::collections::BTreeMap::new();
            for sample in &stormed.probed.samples {
                let worst = buckets.entry(sample.due_ns / BUCKET_NS).or_insert(0);
                *worst = sample.latency_ns.max(*worst);
            }
            let point = |(bucket, worst): (u64, u64)| {
                let seconds = since(bucket * BUCKET_NS, stormed.times.storm);
                (seconds, worst.max(1) as f64 / 1e6)
            };
            buckets.into_iter().map(point).collect()
        })
        .collect();
    let all = worst.iter().flatten().map(|point| point.1);
    let (low, high) = all.fold((1.0_f64, 0.01_f64), |(low, high), ms| {
        (low.min(ms), high.max(ms))
    });
    let caption = "worst round trip of the prober in 25 ms, ms (logarithmic); a dot: they drop";
    let mut chart = panel(&below, caption, range, decades(low, high))?;
    for ((at, stormed), points) in shown.iter().zip(&worst) {
        let drop = since(stormed.times.drop, stormed.times.storm);
        let dot = points.iter().find(|point| point.0 >= drop).copied();
        line(&mut chart, points.clone(), "", colour(*at))?;
        let dots = dot.map(|point| Circle::new(point, 5, colour(*at).filled()));
        chart.draw_series(dots)?;
    }
    root.present()?;
    Ok(())
}

type LogChart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<
        plotters::coord::types::RangedCoordf64,
        plotters::coord::combinators::LogCoord<f64>,
    >,
>;

/// An empty chart over time with a logarithmic axis.
fn panel<'a, 'b>(
    root: &Root<'b>,
    caption: &str,
    x: Range<f64>,
    y: Range<f64>,
) -> Result<LogChart<'a, 'b>, Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(root)
        .caption(caption, (FONT, 17))
        .margin(8)
        .x_label_area_size(26)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y.log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(1)
        .light_line_style(FAINT)
        .bold_line_style(FAINT)
        .label_style((FONT, 12))
        .y_label_formatter(&|ms| format!("{ms}"))
        .draw()?;
    Ok(chart)
}
