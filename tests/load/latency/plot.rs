//! The table of a run as a picture: one panel for each network and device, delay over the number of participants.

use std::fmt::Write;

use crate::latency::table::Row;
use crate::latency::table::Table;

const PANEL: f64 = 170.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 48.0;
const GAP: f64 = 14.0;
const BOTTOM: f64 = 40.0;
/// Delay at the foot and at the head of a panel, ms; the scale between is logarithmic.
const FOOT: f64 = 0.1;
const HEAD: f64 = 1000.0;

/// The media that are drawn, with their colours: told apart in grey and by those who see no red or green.
const DRAWN: [(&str, &str); 3] = [("audio", "#0072b2"), ("video", "#d55e00"), ("screen", "#009e73")];

/// An SVG: dots are p50, lines reach up to p99.
pub(crate) fn draw(table: &Table) -> String {
    let mut panels: Vec<(&str, &str)> = Vec::new();
    for (row, _) in table.rows() {
        if !panels.contains(&(&row.network, &row.device)) {
            panels.push((&row.network, &row.device));
        }
    }
    let width = LEFT + panels.len() as f64 * (PANEL + GAP);
    let height = TOP + HEIGHT + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n\
         <title>Delay from publisher to subscriber</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    legend(&mut svg);
    for ms in [0.1, 1.0, 10.0, 100.0, 1000.0] {
        line(
            &mut svg,
            &format!("<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{ms}</text>", LEFT - 6.0, y(ms) + 4.0),
        );
    }
    for (number, (network, device)) in panels.iter().enumerate() {
        let left = LEFT + number as f64 * (PANEL + GAP);
        panel(&mut svg, table, left, network, device);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String) {
    let text = "ms from publisher to subscriber over participants: dot p50, line to p99; dashed: 43 and 68 ms, where playing together \
                gets hard";
    line(svg, &format!("<text x=\"{LEFT:.0}\" y=\"16\">{text}</text>"));
    for (number, (medium, colour)) in DRAWN.iter().enumerate() {
        let x = LEFT + number as f64 * 70.0;
        line(svg, &format!("<circle cx=\"{:.0}\" cy=\"28\" r=\"3.5\" fill=\"{colour}\"/>", x + 4.0));
        line(svg, &format!("<text x=\"{:.0}\" y=\"32\">{medium}</text>", x + 12.0));
    }
}

fn panel(svg: &mut String, table: &Table, left: f64, network: &str, device: &str) {
    for ms in [1.0, 10.0, 100.0] {
        rule(svg, left, ms, "stroke=\"#ddd\"");
    }
    for ms in [43.0, 68.0] {
        rule(svg, left, ms, "stroke=\"#999\" stroke-dasharray=\"4 3\"");
    }
    line(
        svg,
        &format!(
            "<rect x=\"{left:.0}\" y=\"{TOP:.0}\" width=\"{PANEL:.0}\" height=\"{HEIGHT:.0}\" fill=\"none\" stroke=\"#999\"/>"
        ),
    );
    let middle = left + PANEL / 2.0;
    let name = format!("{network}, {device}");
    line(
        svg,
        &format!("<text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{name}</text>", TOP + HEIGHT + 32.0),
    );
    let sizes = table.sizes();
    let step = PANEL / sizes.len().max(1) as f64;
    for (at, size) in sizes.iter().enumerate() {
        let x = left + (at as f64 + 0.5) * step;
        line(svg, &format!("<text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{size}</text>", TOP + HEIGHT + 15.0));
        for (number, (medium, colour)) in DRAWN.iter().enumerate() {
            let wanted = Row { network: network.into(), device: device.into(), medium: (*medium).into() };
            let found = table.rows().iter().find(|(row, _)| *row == wanted);
            let Some((_, cell)) =
                found.and_then(|(_, cells)| cells.iter().find(|(participants, _)| participants == size))
            else {
                continue;
            };
            let x = x + (number as f64 - 1.0) * 8.0;
            let (p50, p99) = (y(cell.figures.p50), y(cell.figures.p99));
            line(svg, &format!("<path d=\"M{x:.1} {p50:.1}V{p99:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
            line(svg, &format!("<circle cx=\"{x:.1}\" cy=\"{p50:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
        }
    }
}

fn rule(svg: &mut String, left: f64, ms: f64, style: &str) {
    line(svg, &format!("<path d=\"M{left:.0} {:.1}h{PANEL:.0}\" {style}/>", y(ms)));
}

fn y(ms: f64) -> f64 {
    let part = (ms.clamp(FOOT, HEAD) / FOOT).log10() / (HEAD / FOOT).log10();
    TOP + HEIGHT * (1.0 - part)
}

fn line(svg: &mut String, text: &str) {
    let _a_string_takes_all = writeln!(svg, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::table::Cell;
    use crate::latency::tally::Figures;

    #[test]
    fn each_measured_cell_is_a_dot_in_the_panel_of_its_network() {
        let mut table = Table::default();
        for (network, p50) in [("clean", 0.5), ("DSL", 31.0)] {
            for size in [2, 5] {
                let row = Row { network: network.into(), device: "desktop".into(), medium: "audio".into() };
                let figures = Figures { p50, p95: p50, p99: 2.0 * p50, loss: 0.0 };
                table.put(row, size, Cell { figures, is_strained: false });
            }
        }
        let svg = draw(&table);
        assert_eq!(svg.matches("r=\"3.5\"").count(), 4 + DRAWN.len(), "and the legend's");
        assert!(svg.contains("clean, desktop") && svg.contains("DSL, desktop"));
        assert!(y(31.0) < y(0.5), "more delay is further up");
        assert_eq!((y(0.01), y(5000.0)), (TOP + HEIGHT, TOP), "what leaves the scale stays in the panel");
    }
}
