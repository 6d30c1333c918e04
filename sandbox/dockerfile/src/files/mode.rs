//! `--chmod`: octal and symbolic modes.

/// A change of modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// `0755`: this mode.
    Octal(u32),
    /// `u=rwX,go=rX`: one after the other.
    Symbolic(Vec<Clause>),
}

/// `go+r-w` is two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Mask of who: `0o700`, `0o070`, `0o007`, with the bits `s` and `t` that are theirs.
    who: u32,
    operator: char,
    /// As for all of `ugo`.
    bits: u32,
    /// `X`: execution for directories, and where somebody has it.
    conditional: bool,
    /// `u`, `g`, `o` after the operator: what they have.
    like: Option<char>,
}

impl ModeChange {
    /// Reads the value of `--chmod`.
    ///
    /// # Errors
    /// In BuildKit's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        };
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return u32::from_str_radix(text, 8)
                .ok()
                .filter(|m| *m <= 0o7777)
                .map(Self::Octal)
                .ok_or_else(invalid);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            parse_part(part, &mut clauses).ok_or_else(invalid)?;
        }
        Ok(Self::Symbolic(clauses))
    }

    /// The mode that a file gets which has `mode`.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, directory))
            }
        }
    }
}

fn parse_part(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let at = part.find(['+', '-', '='])?;
    let mut who = 0;
    for c in part[..at].chars() {
        who |= match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let who = if who == 0 { 0o7777 } else { who };
    let mut chars = part[at..].chars().peekable();
    while let Some(operator) = chars.next() {
        if !matches!(operator, '+' | '-' | '=') || clauses.len() > 100 {
            return None;
        }
        let mut clause = Clause { who, operator, bits: 0, conditional: false, like: None };
        while let Some(c) = chars.next_if(|c| !matches!(c, '+' | '-' | '=')) {
            match c {
                'r' => clause.bits |= 0o444,
                'w' => clause.bits |= 0o222,
                'x' => clause.bits |= 0o111,
                's' => clause.bits |= 0o6000,
                't' => clause.bits |= 0o1000,
                'X' => clause.conditional = true,
                'u' | 'g' | 'o' => clause.like = Some(c),
                _ => return None,
            }
        }
        clauses.push(clause);
    }
    Some(())
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut bits = self.bits;
        if self.conditional && (directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        let like = match self.like {
            Some('u') => mode >> 6 & 7,
            Some('g') => mode >> 3 & 7,
            Some(_) => mode & 7,
            None => 0,
        };
        bits = (bits | like << 6 | like << 3 | like) & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_octal_and_symbolic() {
        for (text, mode, directory, expected) in [
            ("755", 0o600, false, 0o755),
            ("0", 0o777, false, 0),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o777, false, 0o700),
            ("a=rX", 0o644, false, 0o444),
            ("a=rX", 0o755, true, 0o555),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("g=u", 0o700, false, 0o770),
            ("u+s", 0o755, false, 0o4755),
            ("o+t", 0o777, true, 0o1777),
        ] {
            assert_eq!(ModeChange::parse(text).unwrap().apply(mode, directory), expected, "{text}");
        }
        for bad in ["", "9", "10000", "rwx", "u~x", "u=q", ","] {
            let text = ModeChange::parse(bad).unwrap_err();
            assert_eq!(
                text,
                format!(
                    "invalid chmod parameter: '{bad}'. it should be octal string and between 0 and 07777"
                )
            );
        }
    }
}
