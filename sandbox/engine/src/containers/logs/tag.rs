//! `--log-opt tag=…`: what a Go template makes of a container. A template of a tag has fields, the functions of moby's
//! `daemon/logger/templates`, pipes and brackets; statements (`if`, `range`) are refused. Errors are told in the words of `text/template`.

use serde_json::Value;

/// The name of the template in errors.
const NAME: &str = "log-tag";

/// What a template makes of an object's fields.
pub fn execute(template: &str, fields: &Value) -> Result<String, String> {
    let (mut made, mut rest, mut trim) = (String::new(), template, false);
    while let Some(begin) = rest.find("{{") {
        let text = if trim { rest[..begin].trim_start() } else { &rest[..begin] };
        let action = &rest[begin + 2..];
        let Some(end) = action.find("}}") else { return Err(parsing("unclosed action")) };
        let at = template.len() - action.len();
        let (action, after) = (&action[..end], &action[end + 2..]);
        let (action, before) = action.strip_prefix("- ").map_or((action, false), |action| (action, true));
        let (action, next) = action.strip_suffix(" -").map_or((action, false), |action| (action, true));
        made.push_str(if before { text.trim_end() } else { text });
        (rest, trim) = (after, next);
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            let mut parser = Parser { words: words(action)?.into_iter().peekable(), fields, at };
            let value = parser.pipeline(false)?;
            made.push_str(&shown(&value));
        }
    }
    made.push_str(if trim { rest.trim_start() } else { rest });
    Ok(made)
}

fn parsing(why: &str) -> String {
    format!("template: {NAME}:1: {why}")
}

#[derive(Debug, Clone, PartialEq)]
enum Word {
    /// `.A.b`, with its place in the action.
    Field(String, usize),
    Text(String),
    Number(i64),
    Function(String),
    Pipe,
    Open,
    Close,
}

fn words(action: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = action;
    loop {
        rest = rest.trim_start();
        let at = action.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(words) };
        let (word, len) = match first {
            '|' => (Word::Pipe, 1),
            '(' => (Word::Open, 1),
            ')' => (Word::Close, 1),
            '"' | '`' => {
                let (text, len) = quoted(rest, first)?;
                (Word::Text(text), len)
            }
            _ => {
                let len = rest.find([' ', '\t', '|', '(', ')']).unwrap_or(rest.len());
                (plain(&rest[..len], at)?, len)
            }
        };
        words.push(word);
        rest = &rest[len..];
    }
}

fn quoted(text: &str, mark: char) -> Result<(String, usize), String> {
    let unclosed =
        || parsing(if mark == '"' { "unterminated quoted string" } else { "unterminated raw quoted string" });
    if mark == '`' {
        let end = text[1..].find('`').ok_or_else(unclosed)?;
        return Ok((text[1..=end].to_owned(), end + 2));
    }
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '"' if !escaped => {
                let read = serde_json::from_str(&text[..=at]).map_err(|_| parsing("invalid syntax"))?;
                return Ok((read, at + 1));
            }
            _ => escaped = letter == '\\' && !escaped,
        }
    }
    Err(unclosed())
}

fn plain(word: &str, at: usize) -> Result<Word, String> {
    if let Some(name) = word.strip_prefix('.') {
        let good = |part: &str| part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.is_empty();
        return match name.is_empty() || name.split('.').all(good) {
            true => Ok(Word::Field(word.to_owned(), at)),
            false => Err(parsing(&format!("bad character in {word:?}"))),
        };
    }
    if let Ok(number) = word.parse() {
        return Ok(Word::Number(number));
    }
    match word {
        "json" | "split" | "join" | "title" | "lower" | "upper" | "pad" | "truncate" | "index" => {
            Ok(Word::Function(word.to_owned()))
        }
        "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" => {
            Err(parsing(&format!("{{{{{word}}}}} is not available in tags on this engine")))
        }
        _ if word.chars().all(|c| c.is_alphanumeric() || c == '_') => {
            Err(parsing(&format!("function {word:?} not defined")))
        }
        _ => Err(parsing(&format!("unexpected {word:?} in operand"))),
    }
}

struct Parser<'a, W: Iterator<Item = Word>> {
    words: std::iter::Peekable<W>,
    fields: &'a Value,
    /// Where the action begins in the template.
    at: usize,
}

impl<W: Iterator<Item = Word>> Parser<'_, W> {
    /// Commands with `|` between them; each takes what the one before has made as its last argument.
    fn pipeline(&mut self, inner: bool) -> Result<Value, String> {
        let mut value = None;
        loop {
            value = Some(self.command(value)?);
            match self.words.next() {
                Some(Word::Pipe) => {}
                Some(Word::Close) if inner => break,
                Some(Word::Close) => return Err(parsing("unexpected right paren")),
                None if inner => return Err(parsing("unclosed left paren")),
                _ => break,
            }
        }
        value.ok_or_else(|| parsing("missing value for command"))
    }

    fn command(&mut self, piped: Option<Value>) -> Result<Value, String> {
        let Some(first) = self.words.next_if(|word| !matches!(word, Word::Pipe | Word::Close)) else {
            return Err(parsing("missing value for command"));
        };
        let mut given = Vec::new();
        while let Some(word) = self.words.next_if(|word| !matches!(word, Word::Pipe | Word::Close)) {
            given.push(self.operand(word)?);
        }
        given.extend(piped);
        match first {
            Word::Function(name) => {
                call(&name, &given).ok_or_else(|| parsing(&format!("wrong arguments for {name}")))
            }
            operand if given.is_empty() => self.operand(operand),
            _ => Err(parsing("can't give argument to non-function")),
        }
    }

    fn operand(&mut self, word: Word) -> Result<Value, String> {
        match word {
            Word::Open => self.pipeline(true),
            Word::Text(text) => Ok(text.into()),
            Word::Number(number) => Ok(number.into()),
            Word::Field(path, at) => self.field(&path, at),
            Word::Function(name) => {
                call(&name, &[]).ok_or_else(|| parsing(&format!("wrong arguments for {name}")))
            }
            Word::Pipe | Word::Close => Err(parsing("missing value for command")),
        }
    }

    fn field(&self, path: &str, at: usize) -> Result<Value, String> {
        let mut value = self.fields.clone();
        for (depth, name) in path.split('.').skip(1).filter(|name| !name.is_empty()).enumerate() {
            value = match (value.get(name), depth, &value) {
                (Some(found), ..) => found.clone(),
                // Of a map.
                (None, 1.., Value::Object(_)) => Value::Null,
                (None, depth, of) => {
                    let kind = match of {
                        _ if depth == 0 => "*logger.Info",
                        Value::Array(_) => "[]string",
                        _ => "string",
                    };
                    return Err(format!(
                        "template: {NAME}:1:{}: executing {NAME:?} at <{path}>: can't evaluate field {name} in type {kind}",
                        self.at + at
                    ));
                }
            };
        }
        Ok(value)
    }
}

/// The functions of moby's templates; `None` if the arguments are no good.
fn call(name: &str, given: &[Value]) -> Option<Value> {
    let number = |at: usize| given.get(at).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let text = |at: usize| given.get(at).and_then(Value::as_str);
    Some(match (name, given.len()) {
        ("json", 1) => given[0].to_string().into(),
        ("lower", 1) => text(0)?.to_lowercase().into(),
        ("upper", 1) => text(0)?.to_uppercase().into(),
        ("title", 1) => title(text(0)?).into(),
        ("split", 2) => text(0)?.split(text(1)?).collect::<Vec<_>>().into(),
        ("join", 2) => {
            let parts: Option<Vec<&str>> = given[0].as_array()?.iter().map(Value::as_str).collect();
            parts?.join(text(1)?).into()
        }
        ("pad", 3) if text(0)?.is_empty() => "".into(),
        ("pad", 3) => {
            let space = |at| number(at).map(|n| " ".repeat(n.min(1000)));
            format!("{}{}{}", space(1)?, text(0)?, space(2)?).into()
        }
        ("truncate", 2) => text(0)?.chars().take(number(1)?).collect::<String>().into(),
        ("index", 2) => match &given[0] {
            Value::Object(map) => map.get(text(1)?).cloned().unwrap_or_else(|| "".into()),
            Value::Array(list) => list.get(number(1)?)?.clone(),
            _ => return None,
        },
        _ => return None,
    })
}

fn title(text: &str) -> String {
    let mut before = ' ';
    let capital = |letter: char| {
        let first = !(before.is_alphanumeric() || matches!(before, '_' | '\''));
        before = letter;
        if first { letter.to_uppercase().next().unwrap_or(letter) } else { letter }
    };
    text.chars().map(capital).collect()
}

/// As Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_made_as_go_makes_them() {
        let fields = serde_json::json!({
            "Name": "web", "ID": "0123456789ab", "ImageName": "nginx:1", "ContainerLabels": {"tier": "front"},
        });
        let made = |template: &str| execute(template, &fields).unwrap();
        assert_eq!(made("docker/{{.Name}}/{{.ID}}"), "docker/web/0123456789ab");
        assert_eq!(made("{{ .ImageName }} - {{- .Name }}"), "nginx:1 -web");
    }

    #[test]
    fn functions_take_what_is_piped_to_them_last() {
        let fields =
            serde_json::json!({"Name": "web app", "ID": "0123456789ab", "ContainerLabels": {"a": "b"}});
        let made = |template: &str| execute(template, &fields).unwrap();
        assert_eq!(made("{{.Name | upper}}{{/* no */}}"), "WEB APP");
        assert_eq!(made("{{title .Name}} {{truncate .ID 4}}"), "Web App 0123");
        assert_eq!(made("{{index (split .Name \" \") 1}}"), "app");
        assert_eq!(
            made("{{.ContainerLabels.a}}{{.ContainerLabels.b}}{{index .ContainerLabels \"a\"}}"),
            "b<no value>b"
        );
        assert_eq!(made("{{json .Name}}{{pad .Name 1 2}}."), "\"web app\" web app  .");
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_text_template() {
        let wrong = |template: &str| execute(template, &serde_json::json!({"Name": "x"})).unwrap_err();
        assert_eq!(
            wrong("a{{.Nmae}}"),
            "template: log-tag:1:3: executing \"log-tag\" at <.Nmae>: can't evaluate field Nmae in type *logger.Info"
        );
        assert_eq!(wrong("{{.Name"), "template: log-tag:1: unclosed action");
        assert_eq!(wrong("{{}}"), "template: log-tag:1: missing value for command");
        assert_eq!(wrong("{{trim .Name}}"), "template: log-tag:1: function \"trim\" not defined");
    }
}
