//! Tables on standard output, and the few statistics that they hold.

use std::{fmt::Write, time::Duration};

/// A table whose first column is text and whose others are figures.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(title: impl Into<String>, headings: &[&str]) -> Self {
        Self { title: title.into(), rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Writes it to standard output.
    pub fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            self.rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        println!("\n=== {}", self.title);
        for row in &self.rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let w = widths[i];
                // Writing to a string cannot fail.
                let _ = if i == 0 { write!(line, "{cell:<w$}") } else { write!(line, "  {cell:>w$}") };
            }
            println!("{}", line.trim_end());
        }
    }
}

/// A duration in milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The value below which this part of all values is.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Says whether a figure is what was promised.
pub fn at_most(value: f64, goal: f64) -> String {
    if value <= goal { "yes".into() } else { format!("NO ({:.2}x)", value / goal) }
}

/// Says whether a figure is what was promised.
pub fn at_least(value: f64, goal: f64) -> String {
    if value >= goal { "yes".into() } else { format!("NO ({:.2}x)", value / goal) }
}
