//! Warnings about a Dockerfile, by BuildKit's rules (frontend/dockerfile/linter): here those that only read it, in [`values`] those that
//! evaluate variables. They are shown at the end of a build, and by `docker build --check`. InvalidBaseImagePlatform is not here: an
//! image of another platform is not pulled.

mod values;

pub use values::{Known, base_names};

use crate::error::failed;
use drydock_dockerfile::ignore::Patterns;
use drydock_dockerfile::language::{Dockerfile, Instruction, Kind, Stage};
use std::collections::{BTreeSet, HashSet};
use tonic::Status;

/// Warnings about one file; more help nobody.
const MAX_WARNINGS: usize = 200;

/// A warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `StageNameCasing`.
    pub rule: &'static str,
    /// What the rule is.
    pub description: &'static str,
    /// Where it is explained.
    pub url: String,
    /// What is wrong here.
    pub message: String,
    /// First and last line; 0 is unknown.
    pub lines: (usize, usize),
}

impl Warning {
    /// As it is shown in a list.
    pub fn short(&self) -> String {
        match self.lines.0 {
            0 => format!("{}: {}", self.rule, self.message),
            line => format!("{}: {} (line {line})", self.rule, self.message),
        }
    }
}

/// A rule: name, description, last part of its address.
type Rule = (&'static str, &'static str, &'static str);

const STAGE_CASE: Rule = ("StageNameCasing", "Stage names should be lowercase", "stage-name-casing");
const AS_CASE: Rule =
    ("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword", "from-as-casing");
const CONTINUATION: Rule = (
    "NoEmptyContinuation",
    "Empty continuation lines will become errors in a future release",
    "no-empty-continuation",
);
const CASE: Rule = (
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "consistent-instruction-casing",
);
const DUPLICATE: Rule = ("DuplicateStageName", "Stage names should be unique", "duplicate-stage-name");
const RESERVED: Rule =
    ("ReservedStageName", "Reserved words should not be used as stage names", "reserved-stage-name");
const JSON: Rule = (
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    "json-args-recommended",
);
const MAINTAINER: Rule = (
    "MaintainerDeprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "maintainer-deprecated",
);
const MULTIPLE: Rule = (
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
    "multiple-instructions-disallowed",
);
const LEGACY: Rule = (
    "LegacyKeyValueFormat",
    "Legacy key/value format with whitespace separator should not be used",
    "legacy-key-value-format",
);
const SECRETS: Rule = (
    "SecretsUsedInArgOrEnv",
    "Sensitive data should not be used in the ARG or ENV commands",
    "secrets-used-in-arg-or-env",
);

/// Rules that only run if they are wished.
const COPY_IGNORED: Rule =
    ("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore", "copy-ignored-file");
const DEFINITION: Rule = (
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    "invalid-definition-description",
);

/// What `# check=` and `BUILDKIT_DOCKERFILE_CHECK` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    skip: BTreeSet<String>,
    skip_all: bool,
    experimental: BTreeSet<String>,
    experimental_all: bool,
    error: bool,
}

impl Options {
    fn read(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let list = |value: &str| value.split(',').map(|rule| rule.trim().to_owned()).collect();
        for part in text.trim().splitn(3, ';').filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("invalid check option \"{part}\""))?;
            match (key.trim(), value.trim()) {
                ("skip", "all") => options.skip_all = true,
                ("skip", rules) => options.skip = list(rules),
                ("experimental", "all") => options.experimental_all = true,
                ("experimental", rules) => options.experimental = list(rules),
                ("error", "1" | "t" | "T" | "true" | "True" | "TRUE") => options.error = true,
                ("error", "0" | "f" | "F" | "false" | "False" | "FALSE") => options.error = false,
                ("error", value) => {
                    return Err(format!(
                        "failed to parse check option \"{part}\": strconv.ParseBool: parsing \"{value}\": invalid syntax"
                    ));
                }
                (key, _) => return Err(format!("invalid check option \"{key}\"")),
            }
        }
        Ok(options)
    }

    /// Those of a build: `given` replace those of the file.
    fn of(file: &Dockerfile, given: Option<&str>) -> Result<Self, Status> {
        let own = file.directives.iter().find(|(name, _)| name == "check").map(|(_, value)| value.as_str());
        let what = if given.is_some() { "BUILDKIT_DOCKERFILE_CHECK" } else { "check options" };
        let read = Self::read(given.or(own).unwrap_or_default());
        read.map_err(|error| failed(format!("failed to parse {what}: {error}")))
    }

    fn experiments(&self, (rule, ..): Rule) -> bool {
        self.experimental_all || self.experimental.contains(rule)
    }
}

/// Whether [`Known::ignored`] is needed.
///
/// # Errors
/// If an option is malformed.
pub fn needs_ignored(file: &Dockerfile, given: Option<&str>) -> Result<bool, Status> {
    Ok(Options::of(file, given)?.experiments(COPY_IGNORED))
}

/// Looks at a file. `given` are options that replace those of the file.
///
/// # Errors
/// If an option is malformed.
pub fn check(
    file: &Dockerfile,
    given: Option<&str>,
    known: &Known,
) -> Result<(Vec<Warning>, Result<(), Status>), Status> {
    let options = Options::of(file, given)?;
    let mut linter = Linter::default();
    if !options.skip_all {
        linter.file(file);
        linter.values(file, known);
    }
    let mut warnings = linter.warnings;
    warnings.retain(|warning| !options.skip.contains(warning.rule));
    let mut linter = Linter::default();
    if options.experiments(DEFINITION) {
        linter.definitions(file);
    }
    if let Some(ignored) = known.ignored.as_ref().filter(|_| options.experiments(COPY_IGNORED)) {
        linter.copies(file, ignored);
    }
    warnings.append(&mut linter.warnings);
    warnings.sort_by_key(|warning| warning.lines);
    let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule).collect();
    let verdict = if options.error && !rules.is_empty() {
        let rules: Vec<&str> = rules.into_iter().collect();
        Err(failed(format!("lint violation found for rules: {}", rules.join(", "))))
    } else {
        Ok(())
    };
    Ok((warnings, verdict))
}

#[derive(Default)]
struct Linter {
    warnings: Vec<Warning>,
}

impl Linter {
    fn warn(&mut self, (rule, description, page): Rule, lines: (usize, usize), message: String) {
        if self.warnings.len() < MAX_WARNINGS {
            let url = format!("https://docs.docker.com/go/dockerfile/rule/{page}/");
            self.warnings.push(Warning { rule, description, url, message, lines });
        }
    }

    fn file(&mut self, file: &Dockerfile) {
        for warning in &file.warnings {
            self.warn(CONTINUATION, (warning.line, warning.line), "Empty continuation line".into());
        }
        self.casing(file);
        let mut names = HashSet::new();
        for stage in &file.stages {
            self.stage_name(stage, &mut names);
            self.stage(stage);
        }
        for instruction in &file.global_args {
            self.keys(instruction);
        }
    }

    /// Instructions in the case of the majority.
    fn casing(&mut self, file: &Dockerfile) {
        let words = file.stages.iter().flat_map(|stage| {
            let from = (first_word(&stage.source), (stage.line, stage.line));
            // Labels of the command line are no part of the file.
            let others = stage.instructions.iter().filter(|i| !matches!(i.kind, Kind::Label(_, false)));
            std::iter::once(from).chain(others.map(|i| (first_word(&i.source), lines(i))))
        });
        let words: Vec<_> = words.collect();
        let lower = words.iter().filter(|(word, _)| *word == word.to_lowercase()).count();
        let upper = words.iter().filter(|(word, _)| *word == word.to_uppercase()).count();
        for (word, lines) in words {
            let (right, name) = if lower > upper {
                (word.to_lowercase(), "lowercase")
            } else {
                (word.to_uppercase(), "uppercase")
            };
            if word != right {
                let text = format!("Command '{word}' should match the case of the command majority ({name})");
                self.warn(CASE, lines, text);
            }
        }
    }

    fn stage_name(&mut self, stage: &Stage, names: &mut HashSet<String>) {
        let lines = (stage.line, stage.line);
        let words: Vec<&str> =
            stage.source.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        let Some(name) = &stage.name else { return };
        if let [from, _, keyword, written] = words.as_slice() {
            if *written != written.to_lowercase() {
                self.warn(STAGE_CASE, lines, format!("Stage name '{written}' should be lowercase"));
            }
            let upper = |word: &str| word == word.to_uppercase();
            let lower = |word: &str| word == word.to_lowercase();
            if lower(from) && !lower(keyword) || upper(from) && !upper(keyword) {
                self.warn(AS_CASE, lines, format!("'{keyword}' and '{from}' keywords' casing do not match"));
            }
        }
        if matches!(name.as_str(), "context" | "scratch") {
            let text = format!("Stage name should not use the same name as reserved stage \"{name}\"");
            self.warn(RESERVED, lines, text);
        }
        if !names.insert(name.clone()) {
            let text = format!("Duplicate stage name \"{name}\", stage names should be unique");
            self.warn(DUPLICATE, lines, text);
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let (mut shell, mut once) = (false, [None; 3]);
        for instruction in &stage.instructions {
            let word = first_word(&instruction.source);
            let slot = match &instruction.kind {
                Kind::Cmd(command) | Kind::Entrypoint(command) => {
                    if command.shell && !shell {
                        let text = format!(
                            "JSON arguments recommended for {word} to prevent unintended behavior related to OS signals"
                        );
                        self.warn(JSON, lines(instruction), text);
                    }
                    Some(usize::from(matches!(instruction.kind, Kind::Entrypoint(_))))
                }
                Kind::Healthcheck(_) => Some(2),
                Kind::Shell(_) => {
                    shell = true;
                    None
                }
                Kind::Maintainer(_) => {
                    let text = "Maintainer instruction is deprecated in favor of using label";
                    self.warn(MAINTAINER, lines(instruction), text.into());
                    None
                }
                _ => None,
            };
            // The earlier one is reported: it is the one that is ignored.
            if let Some(slot) = slot
                && let Some(earlier) = once[slot].replace(lines(instruction))
            {
                let text = format!(
                    "Multiple {word} instructions should not be used in the same stage because only the last one will be used"
                );
                self.warn(MULTIPLE, earlier, text);
            }
            self.keys(instruction);
        }
    }

    /// Comments right before stages and arguments.
    fn definitions(&mut self, file: &Dockerfile) {
        for stage in &file.stages {
            if let Some(name) = &stage.name {
                self.definition("FROM", &[name], &stage.comments, (stage.line, stage.line));
            }
        }
        let inner = file.stages.iter().flat_map(|stage| &stage.instructions);
        for instruction in file.global_args.iter().chain(inner) {
            if let Kind::Arg(list) = &instruction.kind {
                let names: Vec<&String> = list.iter().map(|(name, _)| name).collect();
                self.definition("ARG", &names, &instruction.comments, lines(instruction));
            }
        }
    }

    fn definition(&mut self, what: &str, names: &[&String], comments: &[String], lines: (usize, usize)) {
        let Some(first) = comments.last().and_then(|line| line.split(' ').next()) else { return };
        if names.iter().any(|name| *name == first) {
            return;
        }
        let example = if let [name] = names { name.as_str() } else { "<arg_key>" };
        let text = format!("Comment for {what} should follow the format: `# {example} <description>`");
        self.warn(DEFINITION, lines, text);
    }

    /// Files that `.dockerignore` keeps away.
    fn copies(&mut self, file: &Dockerfile, ignored: &Patterns) {
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            let (copy, word) = match &instruction.kind {
                Kind::Copy(copy) if copy.from.is_none() => (copy, "Copy"),
                Kind::Add(copy) => (copy, "Add"),
                _ => continue,
            };
            for source in copy.sources.iter().filter(|source| ignored.matches(source)) {
                let text =
                    format!("Attempting to {word} file \"{source}\" that is excluded by .dockerignore");
                self.warn(COPY_IGNORED, lines(instruction), text);
            }
        }
    }

    /// `ENV a b`, and names that look like secrets.
    fn keys(&mut self, instruction: &Instruction) {
        let word = first_word(&instruction.source);
        let names: Vec<&str> = match &instruction.kind {
            Kind::Env(pairs) => pairs.iter().map(|pair| pair.name.as_str()).collect(),
            Kind::Arg(list) => list.iter().map(|(name, _)| name.as_str()).collect(),
            _ => Vec::new(),
        };
        for name in names.iter().filter(|name| is_secret(name)) {
            let text = format!("Do not use ARG or ENV instructions for sensitive data ({word} \"{name}\")");
            self.warn(SECRETS, lines(instruction), text);
        }
        if matches!(instruction.kind, Kind::Env(_) | Kind::Label(_, true)) {
            let first = instruction.source.split_whitespace().nth(1).unwrap_or_default();
            if !first.contains('=') {
                let text = format!(
                    "\"{word} key=value\" should be used instead of legacy \"{word} key value\" format"
                );
                self.warn(LEGACY, lines(instruction), text);
            }
        }
    }
}

fn first_word(source: &str) -> &str {
    source.split_whitespace().next().unwrap_or_default()
}

fn lines(instruction: &Instruction) -> (usize, usize) {
    (instruction.line, instruction.last_line)
}

/// Whether a word between underscores says so.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    let secret = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    has(&secret) && !has(&["public"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::language::parse;

    fn short(text: &str) -> Vec<String> {
        let (warnings, _) = check(&parse(text).unwrap(), None, &Known::default()).unwrap();
        warnings.iter().map(Warning::short).collect()
    }

    #[test]
    fn rules_speak_as_buildkits() {
        let text = "ARG API_TOKEN\nFROM a as Base\nMAINTAINER me\nrun x\nENV k v\nCMD one\nCMD [\"two\"]\n\
                    FROM b AS scratch\nFROM c AS base\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT x\n";
        assert_eq!(
            short(text),
            [
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_TOKEN\") (line 1)",
                "StageNameCasing: Stage name 'Base' should be lowercase (line 2)",
                "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 2)",
                "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 3)",
                "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 4)",
                "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 5)",
                "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 6)",
                "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 6)",
                "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 8)",
                "DuplicateStageName: Duplicate stage name \"base\", stage names should be unique (line 9)",
            ]
        );
    }

    #[test]
    fn what_is_right_is_not_warned_about() {
        let text = "FROM a AS b\nENV PUBLIC_KEY=x KEYS=y a=b\nLABEL x=y\nCMD [\"x\"]\nHEALTHCHECK NONE\n";
        assert_eq!(short(text), Vec::<String>::new());
        assert_eq!(short("from a as b\nrun x\n"), Vec::<String>::new());
    }

    #[test]
    fn options_are_obeyed() {
        let of = |line: &str| {
            check(&parse(&format!("# check={line}\nFROM a\nCMD x\n")).unwrap(), None, &Known::default())
        };
        assert_eq!(of("skip=all").unwrap().0, []);
        assert_eq!(of("skip=Other, JSONArgsRecommended").unwrap().0, []);
        let (warnings, verdict) = of("error=true").unwrap();
        assert_eq!(warnings.len(), 1);
        let message = "lint violation found for rules: JSONArgsRecommended";
        assert_eq!(verdict.unwrap_err().message(), message);
        let refused = |line: &str| of(line).unwrap_err().message().to_owned();
        assert_eq!(refused("nonsense"), "failed to parse check options: invalid check option \"nonsense\"");
        assert!(refused("error=maybe").contains("parsing \"maybe\": invalid syntax"));
        let file = parse("# check=skip=all\nFROM a\nCMD x\n").unwrap();
        assert_eq!(check(&file, Some("error=false"), &Known::default()).unwrap().0.len(), 1);
    }

    #[test]
    fn experimental_rules_run_if_they_are_wished() {
        let text = "# V the version\nARG V\n# about\nFROM a AS base\n# none\n#\nARG X\n# one\nARG Y Z\nCOPY secret.txt ok /\n\
                    ADD sub/secret.txt /\nCOPY --from=base secret.txt /\n";
        let known = Known {
            ignored: Some(Patterns::new(&["**/secret.txt".to_owned()]).unwrap()),
            ..Known::default()
        };
        let run = |given: &str| {
            let (warnings, _) = check(&parse(text).unwrap(), Some(given), &known).unwrap();
            warnings.iter().map(Warning::short).collect::<Vec<_>>()
        };
        assert_eq!(run(""), Vec::<String>::new());
        assert_eq!(
            run("experimental=all;skip=all"),
            [
                "InvalidDefinitionDescription: Comment for FROM should follow the format: `# base <description>` (line 4)",
                "InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` (line 9)",
                "CopyIgnoredFile: Attempting to Copy file \"secret.txt\" that is excluded by .dockerignore (line 10)",
                "CopyIgnoredFile: Attempting to Add file \"sub/secret.txt\" that is excluded by .dockerignore (line 11)",
            ]
        );
        assert_eq!(run("experimental=CopyIgnoredFile").len(), 2);
    }
}
