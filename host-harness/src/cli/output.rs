//! Writing results to standard output.

use std::io::{self, ErrorKind, Write};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::CliError;

/// Writes the text and flushes. A reader that has gone away (`| head`) has
/// seen enough: that is no error. Tells whether somebody still reads.
pub(super) fn print(text: &str) -> Result<bool, CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::failed(format!("cannot write to standard output: {error}"))),
    }
}

/// Writes a value as JSON on one line, or on many.
pub(super) fn print_json(value: &serde_json::Value, pretty: bool) -> Result<bool, CliError> {
    print(&if pretty { format!("{value:#}\n") } else { format!("{value}\n") })
}

/// A time to the second.
pub(super) fn to_the_second(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}

/// Rows as columns that are as wide as their widest cell, two spaces apart,
/// after an indent; the last column is not padded.
pub(super) fn table(indent: &str, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text.push_str(indent);
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bb", "c"], ["ääää", "", "d"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table("  ", &rows), "  a     bb  c\n  ääää      d\n");
        assert_eq!(table("", &[]), "");
    }
}
