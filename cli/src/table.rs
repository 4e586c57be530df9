//! Columns for people.

/// Lines of cells, as wide as their widest.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(head);
        table
    }

    /// Adds a line. The first cell is flush left, and numbers are flush right.
    pub(crate) fn row(&mut self, cells: &[impl ToString]) {
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }

    /// The lines.
    pub(crate) fn show(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| {
            self.rows.iter().filter_map(|row| Some(row.get(i)?.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(&["a", "1000"]);
        table.row(&["longer", "1"]);
        assert_eq!(table.show(), "NAME       N\na       1000\nlonger     1\n");
    }
}
