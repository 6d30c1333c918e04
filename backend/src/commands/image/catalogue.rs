//! `drydock image add` and `drydock image catalogue`: the container images that nodes find without Internet.

use super::{
    parse_mirror,
    progress::{Printer, stop_on_signals},
    tell, to_file,
};
use crate::commands::say;
use anyhow::Context;
use clap::{Args, Subcommand};
use drydock_catalogue::{AddOptions, Added, BASIC, Catalogue, Entry, State, all};
use std::{
    fs::File,
    io::{self, BufReader, IsTerminal},
    path::{Path, PathBuf},
};

/// Options of `drydock image add`.
#[derive(Debug, Clone, Args)]
pub struct AddArgs {
    /// Images to add; `drydock image catalogue` lists them.
    #[arg(required_unless_present_any = ["all", "basic"], value_name = "NAME")]
    names: Vec<String>,
    /// Add every image that there is.
    #[arg(long, conflicts_with_all = ["names", "basic"])]
    all: bool,
    /// Add hello-world, hello-wasm, busybox and whoami, which takes seconds.
    #[arg(long, conflicts_with = "all")]
    basic: bool,
    /// Leave those alone that are there and whose recipe has not changed.
    #[arg(long)]
    if_missing: bool,
    /// Debian mirror to take packages from; without it deb.debian.org.
    #[arg(long, value_name = "URL", value_parser = parse_web_mirror)]
    mirror: Option<String>,
}

/// What to do with the catalogue.
#[derive(Debug, Clone, Subcommand)]
pub enum CatalogueCommand {
    /// List what can be added and what is there.
    List,
    /// Write images as one file, for a machine without Internet.
    Export {
        /// The file; `-` is standard output.
        file: PathBuf,
        /// Images to write; without any, all that are there.
        names: Vec<String>,
    },
    /// Read images from a file that `drydock image catalogue export` wrote.
    Import {
        /// The file; `-` is standard input.
        file: PathBuf,
    },
}

/// The steps of a build can't see files of this machine.
fn parse_web_mirror(text: &str) -> Result<String, String> {
    let mirror = parse_mirror(text)?;
    if mirror.starts_with("http") {
        Ok(mirror)
    } else {
        Err("a mirror for container images has the form https://mirror.example.org/debian".into())
    }
}

/// Where the catalogue of a server is.
pub fn catalogue_dir(catalogue: Option<&Path>, state_dir: &Path) -> PathBuf {
    catalogue.map_or_else(|| state_dir.join("catalogue"), Path::to_owned)
}

/// Runs `drydock image add`.
pub(super) fn add(dir: &Path, args: &AddArgs, json: bool) -> anyhow::Result<()> {
    let catalogue = Catalogue::open(dir)?;
    let mut names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    if args.all {
        names.extend(all().iter().map(|recipe| recipe.name));
    }
    if args.basic {
        names.extend(BASIC);
    }
    let stop = Some(stop_on_signals()?);
    let options = AddOptions { mirror: args.mirror.clone(), if_missing: args.if_missing, stop };
    let mut printer = Printer::new();
    let added = catalogue.add(&names, &options, &mut |progress| printer.show(progress));
    printer.finish();
    let added = added?;
    for (name, why) in added.iter().filter_map(|a| Some((a.name, a.kept.as_ref()?))) {
        eprintln!("drydock: {name} is there, but made from another recipe; it could not be made anew: {why}");
    }
    let text: Vec<_> = added.iter().map(described).collect();
    tell(json, &serde_json::json!({"images": added}), &text.join("\n"))
}

fn described(added: &Added) -> String {
    if added.built {
        let names: Vec<_> = added.names.iter().map(|n| n.trim_start_matches("docker.io/library/")).collect();
        format!("{}, built in {} s", names.join(" "), added.seconds)
    } else {
        format!("{} is there", added.name)
    }
}

/// Runs `drydock image catalogue`.
pub(super) fn run(dir: &Path, command: CatalogueCommand, json: bool) -> anyhow::Result<()> {
    let catalogue = Catalogue::open(dir)?;
    match command {
        CatalogueCommand::List => list(&catalogue, json),
        CatalogueCommand::Export { file, names } => export(&catalogue, &names, &file, json),
        CatalogueCommand::Import { file } => import(&catalogue, &file, json),
    }
}

fn list(catalogue: &Catalogue, json: bool) -> anyhow::Result<()> {
    let entries = catalogue.list()?;
    if json {
        return say(&serde_json::to_string_pretty(&entries)?);
    }
    let mut lines =
        vec![format!("{:<14} {:<24} {:<10} {:<22} {:>8}", "NAME", "TAGS", "STATE", "CREATED", "SIZE")];
    lines.extend(entries.iter().map(line));
    say(&lines.join("\n"))
}

fn line(entry: &Entry) -> String {
    let state = match entry.state {
        State::Missing => "not there",
        State::Stale => "stale",
        State::Present => "there",
    };
    let size = match entry.size {
        0 => String::new(),
        size => format!("{:.1} MB", size as f64 / 1e6),
    };
    let created = entry.created.get(..19).unwrap_or_default();
    let tags = entry.tags.join(", ");
    format!("{:<14} {tags:<24} {state:<10} {created:<22} {size:>8}", entry.name)
}

fn export(catalogue: &Catalogue, names: &[String], file: &Path, json: bool) -> anyhow::Result<()> {
    let Some(size) = to_file(file, &mut |out| Ok(catalogue.export(names, out)?))? else { return Ok(()) };
    let answer = serde_json::json!({"names": names, "file": file, "size": size});
    tell(json, &answer, &format!("the images are in {} ({} MB)", file.display(), size / 1_000_000))
}

fn import(catalogue: &Catalogue, file: &Path, json: bool) -> anyhow::Result<()> {
    let mut printer = Printer::new();
    let names = if file == Path::new("-") {
        anyhow::ensure!(!io::stdin().is_terminal(), "name a file, or give one on standard input");
        catalogue.import(&mut io::stdin().lock(), &mut |progress| printer.show(progress))?
    } else {
        let from = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        catalogue.import(&mut BufReader::new(from), &mut |progress| printer.show(progress))?
    };
    printer.finish();
    tell(json, &serde_json::json!({"imported": names}), &names.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        add: AddArgs,
    }

    fn parse(args: &[&str]) -> Result<AddArgs, clap::Error> {
        Line::try_parse_from(["add"].iter().chain(args)).map(|line| line.add)
    }

    #[test]
    fn something_must_be_asked_for() {
        assert!(parse(&[]).is_err() && parse(&["--if-missing"]).is_err());
        assert!(parse(&["--all"]).unwrap().all && parse(&["--basic", "--if-missing"]).unwrap().if_missing);
        assert_eq!(parse(&["nginx", "redis"]).unwrap().names, ["nginx", "redis"]);
        assert_eq!(parse(&["--basic", "debian"]).unwrap().names, ["debian"]);
        assert!(parse(&["--all", "nginx"]).is_err() && parse(&["--all", "--basic"]).is_err());
    }

    #[test]
    fn mirrors_must_be_reachable_from_a_step() {
        assert!(parse(&["debian", "--mirror", "http://mirror.example.org/debian"]).is_ok());
        for bad in ["file:///srv/mirror", "http://a b", "x"] {
            assert!(parse(&["debian", "--mirror", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_catalogue_is_in_the_state_directory_unless_told_otherwise() {
        assert_eq!(catalogue_dir(None, Path::new("/s")), Path::new("/s/catalogue"));
        assert_eq!(catalogue_dir(Some(Path::new("/c")), Path::new("/s")), Path::new("/c"));
    }
}
