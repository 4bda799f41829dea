//! The table of a run: written into docs/PERFORMANCE.md, read back from there, and compared.

use std::fmt;
use std::fmt::Write;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::latency::tally::Figures;

/// One measured cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) figures: Figures,
    /// The generator itself was late, so the figures say more about the machine than about the gateway.
    pub(crate) is_strained: bool,
}

/// What was measured, but for the number of participants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) network: String,
    pub(crate) device: String,
    pub(crate) medium: String,
}

/// All cells of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    rows: Vec<(Row, Vec<(usize, Cell)>)>,
}

/// A figure that is not what it was.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    place: String,
    what: &'static str,
    unit: &'static str,
    before: f64,
    after: f64,
}

impl Table {
    pub(crate) fn put(&mut self, row: Row, participants: usize, cell: Cell) {
        let at = self.rows.iter().position(|(known, _)| *known == row).unwrap_or_else(|| {
            self.rows.push((row, Vec::new()));
            self.rows.len() - 1
        });
        self.rows[at].1.push((participants, cell));
    }

    pub(crate) fn rows(&self) -> &[(Row, Vec<(usize, Cell)>)] {
        &self.rows
    }

    /// All numbers of participants, rising.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> =
            self.rows.iter().flat_map(|(_, cells)| cells.iter().map(|(size, _)| *size)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// As Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let sizes = self.sizes();
        let mut text = "| network | device | medium |".to_owned();
        for size in &sizes {
            let _a_string_takes_all = write!(text, " {size} |");
        }
        text.push_str("\n|---|---|---|");
        text.push_str(&"---|".repeat(sizes.len()));
        text.push('\n');
        for (row, cells) in &self.rows {
            let _a_string_takes_all = write!(text, "| {} | {} | {} |", row.network, row.device, row.medium);
            for size in &sizes {
                let cell = cells.iter().find(|(at, _)| at == size).map_or("-".to_owned(), |(_, cell)| cell.to_string());
                let _a_string_takes_all = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        text
    }

    /// Reads what [`Table::to_markdown`] wrote, wherever it stands in a text.
    ///
    /// # Errors
    /// There is no such table, or a cell of it is something else.
    pub(crate) fn from_markdown(text: &str) -> Result<Self> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("| network | device | medium |"));
        let head = lines.next().context("there is no table of latencies")?;
        let sizes = columns(head).skip(3).map(|size| Ok(size.parse()?)).collect::<Result<Vec<usize>>>()?;
        let mut table = Self::default();
        for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
            let fields: Vec<&str> = columns(line).collect();
            let [network, device, medium, cells @ ..] = fields.as_slice() else { bail!("too short a line: {line}") };
            let row = Row { network: (*network).into(), device: (*device).into(), medium: (*medium).into() };
            for (size, cell) in sizes.iter().zip(cells).filter(|(_, cell)| **cell != "-") {
                table.put(row.clone(), *size, Cell::parse(cell).with_context(|| format!("no figures: {cell}"))?);
            }
        }
        Ok(table)
    }

    /// What is not what it was before, of all that both have measured.
    pub(crate) fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (row, cells) in &self.rows {
            let Some((_, known)) = before.rows.iter().find(|(other, _)| other == row) else { continue };
            for (size, cell) in cells {
                let Some((_, was)) = known.iter().find(|(at, _)| at == size) else { continue };
                let place = format!("{}, {}, {}, {size} participants", row.network, row.device, row.medium);
                changes.extend(cell.changes_since(was, &place));
            }
        }
        changes
    }
}

fn columns(line: &str) -> impl Iterator<Item = &str> {
    line.trim().trim_matches('|').split('|').map(str::trim)
}

impl Cell {
    /// What `Display` wrote.
    fn parse(text: &str) -> Option<Self> {
        let is_strained = text.ends_with('*');
        let (delays, loss) = text.trim_end_matches('*').split_once(", ")?;
        let mut delays = delays.split(" / ").map(|delay| delay.parse().ok());
        let figures = Figures {
            p50: delays.next()??,
            p95: delays.next()??,
            p99: delays.next()??,
            loss: loss.strip_suffix(" %")?.parse().ok()?,
        };
        Some(Self { figures, is_strained })
    }

    /// Differences beyond what two runs on the same machine differ by: a millisecond and a fifth in the middle, more in the tail.
    fn changes_since(&self, before: &Self, place: &str) -> Vec<Change> {
        let (now, was) = (self.figures, before.figures);
        [
            ("p50", "ms", was.p50, now.p50, 1.0, 0.2),
            ("p95", "ms", was.p95, now.p95, 5.0, 0.3),
            ("p99", "ms", was.p99, now.p99, 10.0, 0.5),
            ("loss", "%", was.loss, now.loss, 0.5, 0.3),
        ]
        .into_iter()
        .filter(|(_, _, was, now, least, part)| (now - was).abs() > f64::max(*least, was * part))
        .map(|(what, unit, before, after, _, _)| Change { place: place.to_owned(), what, unit, before, after })
        .collect()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { p50, p95, p99, loss } = self.figures;
        let mark = if self.is_strained { "*" } else { "" };
        write!(f, "{p50:.1} / {p95:.1} / {p99:.1}, {loss:.2} %{mark}")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, unit, before, after } = self;
        let verdict = if after > before { "worse" } else { "better" };
        write!(f, "{verdict}: {place}: {what} {before:.1} -> {after:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(network: &str, medium: &str) -> Row {
        Row { network: network.into(), device: "desktop".into(), medium: medium.into() }
    }

    fn cell(p50: f64, p99: f64, loss: f64) -> Cell {
        Cell { figures: Figures { p50, p95: p50 + 1.0, p99, loss }, is_strained: false }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.put(row("clean", "audio"), 2, cell(0.4, 2.5, 0.0));
        table.put(row("lossy Wi-Fi", "audio beside video"), 2, cell(16.5, 60.0, 2.25));
        table.put(row("clean", "audio"), 50, Cell { is_strained: true, ..cell(9.0, 120.5, 0.5) });
        table
    }

    #[test]
    fn a_table_is_read_back_from_a_document() {
        let text = format!("# Performance\n\n| other | table |\n|---|---|\n\n{}\nAnd so on.\n", table().to_markdown());
        assert_eq!(Table::from_markdown(&text).expect("readable"), table());
        assert!(Table::from_markdown("# Performance\n").is_err());
        let broken = text.replace("16.5 /", "? /");
        assert!(format!("{:#}", Table::from_markdown(&broken).expect_err("no number")).contains("? / 17.5"));
    }

    #[test]
    fn noise_is_no_change_and_a_change_names_its_place() {
        let mut now = Table::default();
        now.put(row("clean", "audio"), 2, cell(0.9, 9.0, 0.3));
        now.put(row("lossy Wi-Fi", "audio beside video"), 2, cell(21.5, 61.0, 0.0));
        now.put(row("other continent", "audio"), 2, cell(125.0, 130.0, 0.0));
        let changes: Vec<String> = now.changes_since(&table()).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "worse: lossy Wi-Fi, desktop, audio beside video, 2 participants: p50 16.5 -> 21.5 ms",
                "better: lossy Wi-Fi, desktop, audio beside video, 2 participants: loss 2.2 -> 0.0 %",
            ]
        );
    }
}
