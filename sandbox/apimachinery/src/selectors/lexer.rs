//! Words and signs of label selectors (`Lexer` and `Parser` of k8s.io/apimachinery `pkg/labels/selector.go`).

/// What a piece of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `!`
    Not,
    /// `==`
    DoubleEquals,
    /// `=`
    Equals,
    /// `>`
    GreaterThan,
    /// `in`
    In,
    /// `<`
    LessThan,
    /// `!=`
    NotEquals,
    /// `notin`
    NotIn,
    /// `(`
    Open,
    /// A key or a value.
    Identifier,
    /// Signs that mean nothing together.
    Error,
    /// There is no more.
    End,
}

/// What is expected: `in` and `notin` may be values too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A key or an operator.
    KeyAndOperator,
    /// A value.
    Values,
}

/// Reads token after token.
#[derive(Debug)]
pub struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// From the start.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token and its text, not consumed.
    pub fn peek(&self, context: Context) -> (Token, String) {
        let (token, literal, _) = self.lex();
        (in_context(token, context), literal)
    }

    /// The next token and its text.
    pub fn next(&mut self, context: Context) -> (Token, String) {
        let (token, literal, end) = self.lex();
        self.at = end;
        (in_context(token, context), literal)
    }

    fn lex(&self) -> (Token, String, usize) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let start = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return (Token::End, String::new(), start) };
        if is_sign(first) {
            return signs(rest, start);
        }
        let length =
            rest.find(|c: char| is_sign(c) || matches!(c, ' ' | '\t' | '\r' | '\n')).unwrap_or(rest.len());
        let word = &rest[..length];
        let token = match word {
            "in" => Token::In,
            "notin" => Token::NotIn,
            _ => Token::Identifier,
        };
        (token, word.into(), start + length)
    }
}

/// The longest operator that the signs begin with.
fn signs(rest: &str, start: usize) -> (Token, String, usize) {
    let all = rest.find(|c: char| !is_sign(c)).unwrap_or(rest.len());
    let run = &rest[..all];
    for length in [2, 1] {
        let Some(piece) = run.get(..length) else { continue };
        if let Some(token) = operator(piece) {
            return (token, piece.into(), start + length);
        }
    }
    (Token::Error, format!("error expected: keyword found '{run}'"), start + all)
}

fn operator(piece: &str) -> Option<Token> {
    Some(match piece {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::GreaterThan,
        "<" => Token::LessThan,
        "!=" => Token::NotEquals,
        "(" => Token::Open,
        _ => return None,
    })
}

fn in_context(token: Token, context: Context) -> Token {
    match (token, context) {
        (Token::In | Token::NotIn, Context::Values) => Token::Identifier,
        (token, _) => token,
    }
}

fn is_sign(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}
