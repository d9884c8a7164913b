//! What the network sees of bootd, beside what users would pick instead: TFTP, DHCP, HTTP. Every server runs in a network
//! namespace of its own machine's, the load in another, with a cable between; each of them in turn, several times.

use std::error::Error;
use std::io;

mod dhcp;
mod http;
mod lab;
mod servers;
mod tftp;

use lab::Lab;

use crate::rows::Effort;

/// One row: what was measured, of whom, bootd first.
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    /// The medians; `None`: it can't do that.
    figures: Vec<(&'static str, Option<f64>)>,
}

impl Row {
    /// bootd's figure as a multiple of its best peer's.
    fn ratio(&self) -> Option<f64> {
        let (ours, peers) = self.figures.split_first()?;
        let best = peers.iter().filter_map(|(_, figure)| *figure).max_by(f64::total_cmp)?;
        Some(ours.1? / best)
    }

    fn print(&self) {
        let shown = |(who, figure): &(&str, Option<f64>)| match figure {
            Some(figure) => format!("{who} {figure:.0}"),
            None => format!("{who} -"),
        };
        let others: Vec<_> = self.figures.iter().map(shown).collect();
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("**{ratio:.2}**"));
        println!("| {} | {} | {} | {ratio} |", self.name, self.unit, others.join(", "));
    }
}

/// The middle one of what `measure` gives.
fn median(repeats: usize, mut measure: impl FnMut() -> io::Result<f64>) -> io::Result<f64> {
    let mut all = (0..repeats.max(1)).map(|_| measure()).collect::<io::Result<Vec<_>>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all.get(all.len() / 2).copied().unwrap_or_default())
}

/// Measures and prints all rows whose name holds `only`.
///
/// # Errors
/// When a namespace can't be made, or a server does not start or fails under load.
pub(crate) fn run(effort: Effort, only: Option<&str>) -> Result<(), Box<dyn Error>> {
    println!("| load | unit | figures | bootd's multiple of the best other |\n|---|---|---|---|");
    let lab = Lab::new()?;
    let mut rows = Vec::new();
    let wanted = |name: &str| only.is_none_or(|text| name.contains(text));
    for measure in [tftp::rows, dhcp::rows, http::rows] {
        measure(&lab, effort, &wanted, &mut |row: Row| {
            row.print();
            rows.push(row);
        })?;
    }
    let behind: Vec<_> = rows.iter().filter(|row| row.ratio().is_some_and(|ratio| ratio < 1.0)).collect();
    println!("\nThe goal is to be first in every row. Not first:\n");
    for row in &behind {
        println!("- {}: {:.2}", row.name, row.ratio().unwrap_or_default());
    }
    if behind.is_empty() {
        println!("- none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_peer_is_what_counts() {
        let row = |figures| Row { name: String::new(), unit: "", figures };
        assert_eq!(row(vec![("bootd", Some(6.0)), ("a", Some(2.0)), ("b", Some(3.0))]).ratio(), Some(2.0));
        assert_eq!(row(vec![("bootd", Some(6.0)), ("a", None)]).ratio(), None);
        let mut all = [5.0, 1.0, 3.0].into_iter();
        assert_eq!(median(3, || Ok(all.next().unwrap())).unwrap(), 3.0);
    }
}
