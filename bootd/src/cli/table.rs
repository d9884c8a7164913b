//! Tables whose columns line up.

/// Puts `rows` under `head`, two spaces between columns, none behind the last.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    lines(&head.map(str::to_owned), rows)
}

/// The same where the number of columns is known only when it runs; each row has as many as the head.
pub(super) fn lines<R: AsRef<[String]>>(head: &[String], rows: &[R]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    };
    line(head);
    rows.iter().for_each(|row| line(row.as_ref()));
    out
}

/// Puts names before values, the values in one column, also those of several lines.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let below = format!("\n{}", " ".repeat(width + 2));
    facts.iter().map(|(name, value)| format!("{name:<width$}  {}\n", value.replace('\n', &below))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let rows = [["a".into(), "äöü".into(), String::new()], ["long".into(), "b".into(), "c".into()]];
        assert_eq!(table(["X", "Y", "Z"], &rows), "X     Y    Z\na     äöü\nlong  b    c\n");
    }

    #[test]
    fn facts_line_up() {
        assert_eq!(facts(&[("a", "1\n2".into()), ("long", "3".into())]), "a     1\n      2\nlong  3\n");
    }
}
