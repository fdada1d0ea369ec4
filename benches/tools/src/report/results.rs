//! What the runs of a report have shown, and the one figure that stands for them.

use super::suite::{CostCase, Run, Shown};
use crate::{
    hist::Histogram,
    scenario::herd::{idle::Idled, storm::Stormed},
};

/// Runs of one scenario with one contender.
pub type Runs<T> = Vec<Shown<T>>;

/// Somebody whose figures are shown.
#[derive(Clone, Debug)]
pub struct Contender {
    /// The name in tables.
    pub name: String,
    /// What its program says of its version.
    pub version: String,
    /// How it was started.
    pub command: String,
}

/// All runs. The inner vectors have a place for each contender, in their order.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The brokers.
    pub contenders: Vec<Contender>,
    /// The scenarios of the table of costs, with the floor's runs and the brokers'.
    pub costs: Vec<(CostCase, Runs<Run>, Vec<Runs<Run>>)>,
    /// Latencies at a fixed rate.
    pub latencies: Vec<Runs<Run>>,
    /// Memory of idle connections.
    pub idle: Vec<Runs<Idled>>,
    /// Memory of idle connections with a subscription each.
    pub subscribed: Vec<Runs<Idled>>,
    /// Storms.
    pub storms: Vec<Runs<Stormed>>,
}

/// The figure of a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// Nothing was run.
    None,
    /// The median of all runs, which all have a result; the least and the most.
    Median {
        /// The median.
        median: f64,
        /// The least of the runs.
        least: f64,
        /// The most of the runs.
        most: f64,
    },
    /// A run has no result; why.
    Failed(String),
}

impl Figure {
    /// The median, if there is one.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        match self {
            Self::Median { median, .. } => Some(*median),
            _ => None,
        }
    }
}

/// Makes one figure of runs: a broker that fails once has none.
pub fn figure<T>(runs: &[Shown<T>], value: impl Fn(&T) -> f64) -> Figure {
    if let Some(why) = runs.iter().find_map(|run| run.as_ref().err()) {
        return Figure::Failed(why.clone());
    }
    let mut values: Vec<f64> = runs.iter().flatten().map(value).collect();
    values.sort_by(f64::total_cmp);
    match (values.first(), values.last()) {
        (Some(&least), Some(&most)) => {
            let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
            let median = f64::midpoint(values[low], values[high]);
            Figure::Median {
                median,
                least,
                most,
            }
        }
        _ => Figure::None,
    }
}

/// Whether something holds of any run that has a result.
pub fn any<T>(runs: &[Shown<T>], holds: impl Fn(&T) -> bool) -> bool {
    runs.iter().flatten().any(holds)
}

/// The latencies of all runs together; `None` if a run has no result.
#[must_use]
pub fn all_latencies(runs: &[Shown<Run>]) -> Option<Histogram> {
    if runs.is_empty() || runs.iter().any(Result::is_err) {
        return None;
    }
    let mut all = Histogram::default();
    for run in runs.iter().flatten() {
        all.merge(&run.latencies);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_figure_stands_for_all_runs_or_for_none() {
        let of = |runs: &[Shown<f64>]| figure(runs, |&value| value);
        assert_eq!(of(&[]), Figure::None);
        let three = of(&[Ok(3.0), Ok(1.0), Ok(2.0)]);
        assert_eq!(
            three,
            Figure::Median {
                median: 2.0,
                least: 1.0,
                most: 3.0
            }
        );
        assert_eq!(of(&[Ok(3.0), Ok(1.0)]).median(), Some(2.0));
        let failed = of(&[Ok(3.0), Err("lost".to_owned()), Ok(2.0)]);
        assert_eq!(failed, Figure::Failed("lost".to_owned()));
        assert_eq!(failed.median(), None);
    }
}
