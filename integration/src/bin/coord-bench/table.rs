//! What was found, as one Markdown table.

use std::fmt::Write as _;

/// Which way is better, and by how much coord is to be better.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At least so many times what ZooKeeper has.
    AtLeast(f64),
    /// At most so many parts of what ZooKeeper has.
    AtMost(f64),
    /// At most so much, whatever ZooKeeper has.
    Under(f64),
}

/// One line: the medians of both systems.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) zookeeper: Vec<f64>,
    pub(crate) coord: Vec<f64>,
    pub(crate) goal: Goal,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        Some(median(&self.coord)? / median(&self.zookeeper)?)
    }

    /// Whether the goal is reached; `None` where there is nothing to compare.
    fn reached(&self) -> Option<bool> {
        match self.goal {
            Goal::AtLeast(times) => Some(self.ratio()? >= times),
            Goal::AtMost(parts) => Some(self.ratio()? <= parts),
            Goal::Under(limit) => Some(median(&self.coord)? <= limit),
        }
    }
}

/// The table, a line for each row.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | unit | ZooKeeper | coord | ratio | goal | |\n|---|---|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        let goal = match row.goal {
            Goal::AtLeast(times) => format!("≥ {times}×"),
            Goal::AtMost(parts) => format!("≤ {parts:.2}×"),
            Goal::Under(limit) => format!("≤ {limit} {}", row.unit),
        };
        let ratio = row
            .ratio()
            .map_or("–".to_owned(), |ratio| format!("{ratio:.2}×"));
        let verdict = match row.reached() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {ratio} | {goal} | {verdict} |",
            row.what,
            row.unit,
            cell(&row.zookeeper),
            cell(&row.coord)
        );
    }
    text
}

/// The median, and behind it the range where there is one.
fn cell(values: &[f64]) -> String {
    let Some(middle) = median(values) else {
        return "–".to_owned();
    };
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.len() == 1 {
        return number(middle);
    }
    format!("{} ({}–{})", number(middle), number(low), number(high))
}

fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (
        values.get(values.len().checked_sub(1)? / 2)?,
        values.get(values.len() / 2)?,
    );
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(zookeeper: &[f64], coord: &[f64], goal: Goal) -> Row {
        Row {
            what: "set, 256 in flight".to_owned(),
            unit: "1/s",
            zookeeper: zookeeper.to_vec(),
            coord: coord.to_vec(),
            goal,
        }
    }

    #[test]
    fn medians_are_compared_with_the_goal() {
        let faster = row(&[100.0, 300.0, 200.0], &[600.0, 500.0], Goal::AtLeast(3.0));
        assert_eq!(faster.ratio(), Some(2.75));
        assert_eq!(faster.reached(), Some(false));
        assert_eq!(
            row(&[9.0], &[3.0], Goal::AtMost(1.0 / 3.0)).reached(),
            Some(true)
        );
        assert_eq!(
            row(&[], &[501.0], Goal::Under(500.0)).reached(),
            Some(false)
        );
        assert_eq!(row(&[], &[1.0], Goal::AtLeast(3.0)).reached(), None);
    }

    #[test]
    fn a_row_is_a_line() {
        let text = markdown(&[row(&[100.0, 300.0, 200.0], &[600.0], Goal::AtLeast(3.0))]);
        assert_eq!(
            text.lines().last(),
            Some("| set, 256 in flight | 1/s | 200 (100–300) | 600 | 3.00× | ≥ 3× | yes |")
        );
    }
}
