//! Lists of structures on command lines.

/// Splits `dense,blast:b=4,r=8,low-rank` into its structures: a piece that is only a setting belongs to the structure before
/// it, which has settings. Rules for the layers of a model, which contain `;`, are one entry.
///
/// ```
/// use burn_structured_train::comparison::split_structures;
///
/// assert_eq!(split_structures("dense,blast:b=4,r=8,low-rank"), ["dense", "blast:b=4,r=8", "low-rank"]);
/// ```
pub fn split_structures(text: &str) -> Vec<String> {
    if text.contains(';') {
        return vec![text.to_string()];
    }
    let mut structures: Vec<String> = Vec::new();
    for piece in text.split(',') {
        match structures.last_mut() {
            Some(last) if piece.contains('=') && !piece.contains(':') && last.contains(':') => {
                *last = format!("{last},{piece}");
            }
            _ => structures.push(piece.to_string()),
        }
    }
    structures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stay_with_their_structure() {
        assert_eq!(split_structures("dense"), ["dense"]);
        assert_eq!(split_structures("ss1:c=2,k=8,n=32,dense"), ["ss1:c=2,k=8,n=32", "dense"]);
        assert_eq!(split_structures("dense,mlp=blast:b=4,r=2,monarch"), ["dense", "mlp=blast:b=4,r=2", "monarch"]);
        assert_eq!(split_structures("dense,b=4"), ["dense", "b=4"]);
    }

    #[test]
    fn rules_are_one_entry() {
        assert_eq!(split_structures("first=dense;blast:b=4,r=2"), ["first=dense;blast:b=4,r=2"]);
    }
}
