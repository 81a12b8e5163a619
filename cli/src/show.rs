//! What a command prints: tables for people, JSON for programs.

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// As the API answers.
    Json,
    /// For people.
    Table,
    /// One id a line, of instances, hosts or dead letters: for scripts.
    Ids,
}

/// A colour of the command; without colour it is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    Bold,
    Dim,
    Green,
    Red,
    Yellow,
    Cyan,
}

impl Ink {
    fn colour(self) -> Color {
        match self {
            Ink::Bold => Color::Reset,
            Ink::Dim => Color::DarkGrey,
            Ink::Green => Color::Green,
            Ink::Red => Color::Red,
            Ink::Yellow => Color::Yellow,
            Ink::Cyan => Color::Cyan,
        }
    }
}

/// Where a command prints: what was asked for on one side, progress and errors on the other.
pub struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// How what was asked for is printed.
    output: Output,
    has_colour: bool,
    /// Whether somebody watches the progress.
    is_watched: bool,
    /// Whether a line of progress stands there.
    has_progress: bool,
    /// Whether what was printed can be drawn over.
    is_terminal: bool,
    /// The picture that the next one is drawn over.
    picture: Option<String>,
    /// How many columns the terminal has; unknown in a pipe.
    width: Option<usize>,
}

impl Screen {
    /// The process's own standard output and standard error.
    #[must_use]
    pub fn standard() -> Self {
        let for_people = io::stdout().is_terminal();
        // See https://no-color.org: set and not empty.
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            output: if for_people { Output::Table } else { Output::Json },
            has_colour: for_people && !is_plain,
            is_watched: io::stderr().is_terminal(),
            has_progress: false,
            is_terminal: for_people,
            picture: None,
            width: Table::new().width().map(usize::from).filter(|width| *width > 0),
        }
    }

    /// Two pipes: JSON unless tables are asked for, no colour, no progress.
    #[must_use]
    pub fn pipes(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Screen {
            out,
            err,
            output: Output::Json,
            has_colour: false,
            is_watched: false,
            has_progress: false,
            is_terminal: false,
            picture: None,
            width: None,
        }
    }

    /// Prints as asked for, whatever stands at the other end.
    pub(crate) fn choose(&mut self, output: Option<Output>) {
        self.output = output.unwrap_or(self.output);
    }

    /// `text` in this colour.
    pub(crate) fn ink(&self, ink: Ink, text: impl AsRef<str>) -> String {
        let code = match ink {
            Ink::Bold => 1,
            Ink::Dim => 2,
            Ink::Red => 31,
            Ink::Green => 32,
            Ink::Yellow => 33,
            Ink::Cyan => 36,
        };
        let text = text.as_ref();
        if self.has_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The command line's own words, in colour where there is colour.
    pub(crate) fn help(&self, error: &clap::Error) -> String {
        let text = error.render();
        if self.has_colour { text.ansi().to_string() } else { text.to_string() }
    }

    /// A state in its colour.
    pub(crate) fn state(&self, state: &str) -> String {
        self.ink(ink_of_state(state), state)
    }

    /// The value as JSON, as its ids, or as the text that `table` makes of it.
    pub(crate) fn either(&mut self, value: &Value, table: impl FnOnce(&Self) -> String) {
        match self.output {
            Output::Json => self.line(format!("{value:#}")),
            Output::Table => self.line(table(self)),
            Output::Ids => ids(value).iter().for_each(|id| self.line(id)),
        }
    }

    /// A line of what was asked for. Whoever has closed the pipe wants no more: that is no error.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        self.clear_progress();
        let _ = writeln!(self.out, "{}", text.as_ref()).and_then(|()| self.out.flush());
    }

    /// What was asked for, as it is.
    pub(crate) fn raw(&mut self, text: &str) {
        self.clear_progress();
        let _ = write!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    /// A line beside what was asked for: errors, and what programs need not read.
    pub(crate) fn aside(&mut self, text: impl AsRef<str>) {
        self.clear_progress();
        let _ = writeln!(self.err, "{}", text.as_ref());
    }

    /// Progress: one line that the next one overwrites, if somebody watches.
    pub(crate) fn progress(&mut self, text: &str) {
        if self.is_watched {
            let _ = write!(self.err, "\r\x1b[2K{text}").and_then(|()| self.err.flush());
            self.has_progress = true;
        }
    }

    fn clear_progress(&mut self) {
        if std::mem::take(&mut self.has_progress) {
            let _ = write!(self.err, "\r\x1b[2K").and_then(|()| self.err.flush());
        }
    }

    /// Draws a picture over the one before, on a terminal. Elsewhere only the one that is
    /// [kept](Screen::keep) is printed.
    pub(crate) fn draw(&mut self, picture: &str) {
        let picture = picture.trim_end();
        if self.is_terminal && self.picture.as_deref() != Some(picture) {
            let before = self.picture.as_ref().map_or(0, |before| rows(before, self.width));
            let up = if before > 0 { format!("\x1b[{before}A\x1b[0J") } else { String::new() };
            let _ = writeln!(self.out, "{up}{picture}").and_then(|()| self.out.flush());
        }
        self.picture = Some(picture.to_owned());
    }

    /// Lets the last picture stand.
    pub(crate) fn keep(&mut self) {
        if let Some(picture) = self.picture.take().filter(|_| !self.is_terminal) {
            self.line(picture);
        }
    }

    /// How many columns there are: 80 where nobody can say.
    pub(crate) fn columns(&self) -> usize {
        self.width.unwrap_or(COLUMNS_UNLESS_KNOWN)
    }

    /// `text` broken between words so that it fits a terminal, each further line `indent` columns
    /// in; as it is in a pipe.
    pub(crate) fn wrapped(&self, text: &str, indent: usize) -> String {
        self.width.map_or_else(|| text.to_owned(), |width| wrap(text, width, indent))
    }

    /// A table with these headings. The columns of [`STATES`] hold states, each in its colour.
    pub(crate) fn table(&self, headings: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if self.has_colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(headings.iter().map(|text| Cell::new(text).add_attribute(Attribute::Dim)));
        for row in rows {
            let cells = headings.iter().zip(row).map(|(heading, text)| {
                let cell = Cell::new(&text);
                if STATES.contains(heading) { cell.fg(ink_of_state(&text).colour()) } else { cell }
            });
            table.add_row(cells);
        }
        let mut spaced = |gap: u16| {
            table.column_iter_mut().for_each(|column| {
                column.set_padding((0, gap));
            });
            let text = table.to_string();
            text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        };
        let text = spaced(2);
        // What is a little too wide for the terminal stands closer.
        let is_too_wide = |width| text.lines().any(|line| seen(line) > width);
        if self.width.is_some_and(is_too_wide) { spaced(1) } else { text }
    }
}

/// The columns of a terminal whose width nobody can say.
const COLUMNS_UNLESS_KNOWN: usize = 80;

/// How many characters of a line are seen: without what only colours it.
fn seen(line: &str) -> usize {
    let parts = line.split('\x1b').enumerate();
    let text = |(index, part): (usize, &str)| match (index, part.split_once('m')) {
        (1.., Some((_, text))) => text.chars().count(),
        _ => part.chars().count(),
    };
    parts.map(text).sum()
}

/// How many rows of a terminal this wide a picture takes: what is too long goes on in the next.
fn rows(picture: &str, width: Option<usize>) -> usize {
    let of = |line: &str| width.map_or(1, |width| seen(line).div_ceil(width.max(1)).max(1));
    picture.lines().map(of).sum()
}

fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if seen(line) + 1 + seen(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
            Some(_) => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines.join("\n")
}

/// The headings under which states stand.
const STATES: [&str; 3] = ["STATE", "BEFORE", "NOW"];

fn ink_of_state(state: &str) -> Ink {
    match state {
        "running" | "active" => Ink::Green,
        "pending" | "stopping" | "shutting-down" | "draining" | "disabling" | "enabling" => {
            Ink::Yellow
        }
        "dead" | "open" => Ink::Red,
        _ => Ink::Dim,
    }
}

/// The ids of what an answer is about: a list, or one thing.
fn ids(value: &Value) -> Vec<String> {
    let kinds = [("instances", "instance_id"), ("hosts", "host_id"), ("dead_letters", "id")];
    let of = |(list, id): (&str, &str)| match value[list].as_array() {
        Some(all) => all.iter().map(|one| text_at(one, id)).collect(),
        None => value[id].as_str().map(str::to_owned).into_iter().collect::<Vec<_>>(),
    };
    kinds.into_iter().flat_map(of).collect()
}

/// The value at `path` (names joined by `/`; itself without one) as a text, or a dash.
pub(crate) fn text_at(value: &Value, path: &str) -> String {
    let found = if path.is_empty() { Some(value) } else { value.pointer(&format!("/{path}")) };
    match found {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(all)) if all.is_empty() => "-".to_owned(),
        Some(Value::Array(all)) if all.iter().all(Value::is_string) => {
            all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_picture_takes_the_rows_that_are_seen() {
        let cases = [
            ("one", Some(3), 1),
            ("four", Some(3), 2),
            ("\x1b[32mgreen\x1b[0m", Some(5), 1),
            ("a\n\nb", Some(5), 3),
            ("as long as it likes", None, 1),
        ];
        for (picture, width, right) in cases {
            assert_eq!(rows(picture, width), right, "{picture:?} in {width:?}");
        }
    }

    #[test]
    fn ids_are_those_of_what_is_listed_and_of_nothing_in_it() {
        let instance = json!({ "instance_id": "i-1", "placement": { "host": "h" } });
        let cases = [
            (
                json!({ "reservation_id": "r", "instances": [instance, { "instance_id": "i-2" }] }),
                &["i-1", "i-2"][..],
            ),
            (instance, &["i-1"]),
            (json!({ "hosts": [{ "host_id": "h" }] }), &["h"]),
            (json!({ "dead_letters": [{ "id": "d", "message": { "id": "m" } }] }), &["d"]),
            (json!({ "instances": [] }), &[]),
        ];
        for (answer, right) in cases {
            assert_eq!(ids(&answer), right, "{answer}");
        }
    }

    #[test]
    fn a_text_is_broken_between_words_and_no_line_is_wider_than_the_terminal() {
        let text = wrap("1  no host has room for it", 12, 3);
        assert_eq!(text, "1  no host\n   has room\n   for it");
        assert_eq!(wrap("unbreakable", 4, 2), "unbreakable");
    }
}
