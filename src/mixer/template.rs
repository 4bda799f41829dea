//! Pipeline descriptions as text with holes. Holes are filled with numbers only, so no text from outside can become an element.

/// The description in `text` with comments left out and each `{name}` replaced by its number.
pub(super) fn fill(text: &str, holes: &[(&str, u32)]) -> String {
    let description: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line.trim(), " "]).collect();
    holes.iter().fold(description, |filled, (name, number)| filled.replace(&format!("{{{name}}}"), &number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_vanish_and_holes_are_filled() {
        assert_eq!(fill("# in, out\na width={width}\n  ! b", &[("width", 12)]), "a width=12 ! b ");
    }
}
