//! Names of columns from names of tensors.

use std::collections::HashSet;

/// The names that are given, each once. Two names that differ in case alone are one to many readers, and so they are here.
#[derive(Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    pub fn taken<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { taken: names.into_iter().map(str::to_ascii_lowercase).collect() }
    }

    /// A column's name: the prefix and the name with `_` for all but letters, digits and `_` of ASCII. One that is given
    /// already gets `_2`, `_3` and so on.
    pub fn give(&mut self, prefix: &str, name: &str) -> String {
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let first = format!("{prefix}{plain}");
        let mut given = first.clone();
        let mut copy = 2;
        while !self.taken.insert(given.to_ascii_lowercase()) {
            given = format!("{first}_{copy}");
            copy += 1;
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_sql_would_have_to_quote_become_underlines() {
        let mut names = Names::default();
        assert_eq!(names.give("in_", "input:0"), "in_input_0");
        assert_eq!(names.give("in_", "größe (cm)"), "in_gr__e__cm_");
        assert_eq!(names.give("out_", ""), "out_");
    }

    #[test]
    fn names_that_would_collide_are_told_apart() {
        let mut names = Names::taken(["status", "in_x_3"]);
        let given: Vec<String> = ["x.y", "x:y", "X_Y", "x_y_2", "x"].map(|name| names.give("in_", name)).into();
        assert_eq!(given, ["in_x_y", "in_x_y_2", "in_X_Y_3", "in_x_y_2_2", "in_x"]);
        assert_eq!(["x", "x"].map(|name| names.give("in_", name)), ["in_x_2", "in_x_4"], "in_x_3 is taken");
        assert_eq!(names.give("", "Status"), "Status_2");
    }
}
