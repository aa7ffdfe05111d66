//! The text format: comments, commands, and the output that they must produce. What a command means is in `stage.rs`.
//!
//! ```text
//! # A line of explanation.
//! > campaign 1
//! > ready 1
//! 1 becomes candidate in term 2
//!
//! > status 1
//! ...
//! ```
//!
//! Lines that begin with `> ` are commands. Those that stand together run together; the lines behind them, up to an
//! empty one, are their output. Everything else, empty lines included, is for readers.

/// A piece of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A comment or an empty line.
    Prose(String),
    /// Commands and what they print.
    Act(Act),
}

/// Commands that run together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Act {
    /// Line of the first command, from 1.
    pub line: usize,
    pub commands: Vec<String>,
    pub output: Vec<String>,
}

/// Takes a script apart.
pub fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("> "), parts.last_mut()) {
            (Some(command), Some(Part::Act(act))) if act.output.is_empty() => {
                act.commands.push(command.to_owned())
            }
            (Some(_), Some(Part::Act(_))) => {
                return Err(format!("line {number}: a command right behind output; leave a line empty"));
            }
            (Some(command), _) => {
                let act = Act { line: number, commands: vec![command.to_owned()], output: Vec::new() };
                parts.push(Part::Act(act));
            }
            (None, _) if line.is_empty() || line.starts_with('#') => parts.push(Part::Prose(line.to_owned())),
            (None, Some(Part::Act(act))) => act.output.push(line.to_owned()),
            (None, _) => {
                return Err(format!("line {number}: neither comment nor command nor output: {line}"));
            }
        }
    }
    Ok(parts)
}

/// Puts a script together again.
pub fn print(parts: &[Part]) -> String {
    let mut text = String::new();
    let mut line = |content: &str| {
        text.push_str(content);
        text.push('\n');
    };
    for part in parts {
        match part {
            Part::Prose(content) => line(content),
            Part::Act(act) => {
                act.commands.iter().for_each(|command| line(&format!("> {command}")));
                act.output.iter().for_each(|output| line(output));
            }
        }
    }
    text
}

#[test]
fn a_script_survives_being_taken_apart() {
    let text = "# one\n\n> a\n> b\nout\nmore\n\n# two\n> c\n";
    let parts = parse(text).unwrap();
    assert_eq!(parts.iter().filter(|part| matches!(part, Part::Act(_))).count(), 2);
    assert_eq!(print(&parts), text);
    assert!(parse("> a\nout\n> b\n").is_err());
    assert!(parse("stray\n").is_err());
}
