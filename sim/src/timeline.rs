//! A run as a picture: one line per member, with what it was and what befell it, in one HTML page without scripts.

use std::fmt::Write as _;

use crate::run::Run;
use crate::trace::{Record, Seconds, What};

const WIDTH: f64 = 1600.0;
const ROW: usize = 44;
const LEFT: f64 = 170.0;

/// The page of a run whose whole story was kept.
#[must_use]
pub fn page(title: &str, run: &Run) -> String {
    let end = run.figures.simulated_us.max(1) as f64;
    let x = |at: u64| LEFT + at as f64 / end * (WIDTH - LEFT - 20.0);
    let height = (run.member_ids.len() + 2) * ROW;
    let mut svg = String::new();
    for (slot, id) in run.member_ids.iter().enumerate() {
        let y = (slot + 1) * ROW;
        let _ = write!(svg, "<text x='4' y='{}'>{id:016x}</text>", y + 5);
        draw_life(&mut svg, run, slot, y, &x);
    }
    for record in &run.records {
        let y = record.slot.map_or(ROW / 2, |slot| (slot + 1) * ROW);
        draw_mark(&mut svg, record, y, x(record.at));
    }
    let seconds = Seconds(run.figures.simulated_us);
    format!(
        "<!doctype html><meta charset='utf-8'><title>{title}</title>\
         <style>body{{font:13px sans-serif}}text{{font:11px monospace}}.t{{font:9px monospace;fill:#666}}</style>\
         <h1>{title}</h1><p>{seconds} simulated seconds, {:?}, trace {:016x}. Green: leads; blue: runs; \
         red: power cut or killed; orange: disk failed; purple: paused; ticks above: operations asked, answered, timed out (orange), below: \
         applied; small numbers: terms. Hover over a mark to read it.</p>\
         <svg width='{WIDTH}' height='{height}'>{svg}</svg>\n",
        run.outcome, run.hash
    )
}

/// When a member ran, and when it led.
fn draw_life(svg: &mut String, run: &Run, slot: usize, y: usize, x: &dyn Fn(u64) -> f64) {
    let (mut since, mut colour) = (0, None);
    let mut ended = |svg: &mut String, at: u64, next: Option<&'static str>| {
        if let Some(colour) = colour {
            let (from, to) = (x(since), x(at));
            let width = (to - from).max(0.5);
            let _ = write!(
                svg,
                "<rect x='{from:.1}' y='{}' width='{width:.1}' height='8' fill='{colour}'/>",
                y - 4
            );
        }
        (since, colour) = (at, next);
    };
    let mut text_from = 0.0;
    for record in run.records.iter().filter(|record| record.slot == Some(slot)) {
        // Terms where there is room for their number.
        if let What::Leads(term) | What::Follows(_, term) = record.what
            && x(record.at) >= text_from
        {
            let _ = write!(svg, "<text class='t' x='{:.1}' y='{}'>{term}</text>", x(record.at), y + 19);
            text_from = x(record.at) + 8.0 * (1.0 + (term.max(1).ilog10() as f64));
        }
        match record.what {
            What::Started(..) | What::Follows(..) => ended(svg, record.at, Some("#8ab")),
            What::Leads(_) => ended(svg, record.at, Some("#3a3")),
            What::PowerCut
            | What::Killed
            | What::DiskFailed
            | What::DiskLost
            | What::Damaged
            | What::Removed => {
                ended(svg, record.at, None);
            }
            _ => {}
        }
    }
    ended(svg, run.figures.simulated_us, None);
}

/// One thing that happened.
fn draw_mark(svg: &mut String, record: &Record, y: usize, x: f64) {
    let (colour, from, to) = match record.what {
        What::PowerCut | What::Killed | What::DiskLost | What::Damaged => ("#d22", y - 14, y + 14),
        What::DiskFailed | What::BitFlipped(..) => ("#e80", y - 14, y + 14),
        What::Paused(_) => ("#a0a", y - 14, y + 14),
        What::Installed(_) | What::SnapshotSent(..) => ("#06c", y - 14, y + 14),
        What::Asked(..) => ("#ddd", y - 12, y - 9),
        What::Answered(..) => ("#888", y - 12, y - 6),
        What::TimedOut(..) => ("#e80", y - 12, y - 6),
        What::Applied(..) => ("#ccc", y + 6, y + 10),
        What::Intervened(..) | What::Healed => ("#000", y - 8, y + 8),
        _ => return,
    };
    let what = record.what;
    let at = Seconds(record.at);
    let _ = write!(
        svg,
        "<line x1='{x:.1}' x2='{x:.1}' y1='{from}' y2='{to}' stroke='{colour}'><title>{at} {what}</title></line>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::run;
    use crate::scenario::{Fault, Scenario};

    #[test]
    fn a_page_shows_members_terms_leaders_faults_and_operations() {
        let faults = vec![Fault::Kill, Fault::Pause];
        let intervention_us = 300_000;
        let scenario = Scenario { members: 3, faults, intervention_us, ..Scenario::of_seed(6, 4000) };
        let run = run(&scenario, true);
        let page = page("seed 6", &run);
        for id in &run.member_ids {
            assert!(page.contains(&format!(">{id:016x}</text>")), "member {id:x} has no line");
        }
        let some =
            |wanted: fn(&What) -> bool| run.records.iter().find(|record| wanted(&record.what)).unwrap();
        let leads = some(|what| matches!(what, What::Leads(_)));
        let killed = some(|what| matches!(what, What::Killed));
        let answered = some(|what| matches!(what, What::Answered(..)));
        let What::Leads(term) = leads.what else { unreachable!("just found") };
        assert!(page.contains(&format!(">{term}</text>")) && page.contains("fill='#3a3'"));
        for record in [killed, answered] {
            assert!(page.contains(&format!("<title>{} {}</title>", Seconds(record.at), record.what)));
        }
        assert_eq!(page.matches("<line").count(), page.matches("</line>").count());
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</svg>\n"));
        assert!(!page.contains("<script"));
    }
}
