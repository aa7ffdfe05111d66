//! Bars with their spread, one figure of all scenarios in one SVG. The scale is logarithmic where figures lie far apart.

use std::fmt::Write as _;

use super::scenario::Figure;
use super::table::{Group, short};

/// Measures in pixels.
const LABEL_WIDTH: f64 = 330.0;
const BAR_WIDTH: f64 = 420.0;
const BAR_HEIGHT: f64 = 14.0;
const GAP: f64 = 14.0;
const HEAD: f64 = 48.0;
/// For the first server and those after it.
const COLOURS: [&str; 5] = ["#0b6e4f", "#b8b8b8", "#8f8f8f", "#6b6b6b", "#4a4a4a"];
/// Above this ratio between the largest and the least figure the scale is logarithmic.
const LINEAR_RATIO_MAX: f64 = 50.0;

/// A plot of `figure`; nothing if no group has it.
pub(crate) fn svg(groups: &[Group<'_>], figure: Figure) -> Option<String> {
    let rows: Vec<_> =
        groups.iter().filter(|group| group.spread(&group.servers[0], figure).is_some()).collect();
    let all =
        rows.iter().flat_map(|group| group.servers.iter().filter_map(|server| group.spread(server, figure)));
    let figures: Vec<f64> =
        all.flat_map(|spread| [spread.median, spread.high]).filter(|figure| *figure > 0.0).collect();
    let most = figures.iter().copied().reduce(f64::max)?;
    let least = figures.iter().copied().reduce(f64::min)?;
    let width = |value: f64| {
        if most / least <= LINEAR_RATIO_MAX {
            return (value / most).max(0.0) * BAR_WIDTH;
        }
        // A tenth below the least, so that its bar can be seen.
        let floor = least / 10.0;
        (value.max(floor) / floor).ln() / (most / floor).ln() * BAR_WIDTH
    };
    let heights: Vec<f64> = rows.iter().map(|group| group.servers.len() as f64 * BAR_HEIGHT + GAP).collect();
    let height = HEAD + heights.iter().sum::<f64>();
    let scale = if most / least <= LINEAR_RATIO_MAX { "" } else { " (logarithmic)" };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"18\" \
         font-size=\"14\">{}{scale}</text>\n",
        LABEL_WIDTH + BAR_WIDTH + 200.0,
        escaped(figure.title())
    );
    let mut y = HEAD;
    for (group, height) in rows.iter().zip(&heights) {
        let members = if group.members == 1 { String::new() } else { format!(", {} members", group.members) };
        let label = format!("{}{members}, {}", group.scenario.name, group.place);
        let _ = writeln!(text, "<text x=\"8\" y=\"{:.0}\">{}</text>", y + BAR_HEIGHT - 3.0, escaped(&label));
        for (at, server) in group.servers.iter().enumerate() {
            let Some(spread) = group.spread(server, figure) else { continue };
            bar(
                &mut text,
                y + at as f64 * BAR_HEIGHT,
                at,
                server,
                [spread.low, spread.median, spread.high],
                &width,
            );
        }
        y += height;
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn bar(text: &mut String, y: f64, at: usize, server: &str, spread: [f64; 3], width: &impl Fn(f64) -> f64) {
    let [low, median, high] = spread;
    let colour = COLOURS[at.min(COLOURS.len() - 1)];
    let (length, from, to, middle) = (width(median), width(low), width(high), y + BAR_HEIGHT / 2.0 - 1.0);
    let _ = writeln!(
        text,
        "<rect x=\"{LABEL_WIDTH}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n<line \
         x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"black\"/>\n<text x=\"{:.1}\" \
         y=\"{:.1}\">{} {}</text>",
        BAR_HEIGHT - 2.0,
        LABEL_WIDTH + from,
        LABEL_WIDTH + to,
        LABEL_WIDTH + to.max(length) + 6.0,
        y + BAR_HEIGHT - 4.0,
        short(median),
        escaped(server)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_cannot_break_the_picture() {
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
