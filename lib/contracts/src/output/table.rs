//! Plain padded columns, as docker prints them: a header, three spaces between columns, no boxes.

/// Lays out `rows` under `header`. The last column is not padded; control characters are shown escaped so that a
/// hostile name cannot drive the terminal.
#[must_use]
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    line(&mut out, header.iter().copied(), &widths);
    for row in &rows {
        line(&mut out, row.iter().map(String::as_str), &widths);
    }
    out
}

fn line<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let mut text = String::new();
    for (cell, width) in cells.zip(widths) {
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

fn printable(cell: &str) -> String {
    cell.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up_and_control_characters_are_inert() {
        let table = super::render(
            &["ID", "NAME"],
            &[vec!["abc".into(), "\x1b[2J".into()], vec!["d".into(), "e".into()]],
        );
        assert_eq!(table, "ID    NAME\nabc   \\u{1b}[2J\nd     e\n");
    }
}
