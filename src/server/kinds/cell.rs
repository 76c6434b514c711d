//! What a spreadsheet would take for a formula in a CSV file, made harmless and back.

use std::borrow::Cow;

/// Whether a spreadsheet would run the text, once its leading apostrophes are gone.
fn formula(text: &str) -> bool {
    matches!(
        text.trim_start_matches('\'').as_bytes().first(),
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r')
    )
}

/// The text as it is written to a cell: an apostrophe keeps a spreadsheet from running it. Text that looks as if it had
/// been treated already gets one more, so that [`restore`] always finds the way back.
pub fn neutralise(text: &str) -> Cow<'_, str> {
    if formula(text) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text that [`neutralise`] was given.
pub fn restore(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if formula(rest) => rest,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_neutralised_and_restored() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=cmd|' /C calc'!A0"] {
            assert_eq!(neutralise(text), format!("'{text}"));
            assert_eq!(restore(&neutralise(text)), text);
        }
        for text in ["", "plain", "a=b", "'quoted'", "'", "1-2"] {
            assert_eq!(neutralise(text), text);
            assert_eq!(restore(text), text);
        }
        assert_eq!(restore(&neutralise("'=1")), "'=1");
        assert_eq!(restore(&neutralise("''-")), "''-");
    }
}
