//! `drydock image`: prepares, lists, exports and imports node images, and the container images of the catalogue. Works on the image store itself, as root; needs no
//! server. The text for people goes to standard error, what was asked for to standard output.

mod catalogue;
mod progress;

pub use catalogue::{AddArgs, CatalogueCommand, catalogue_dir};

use super::{say, target::Target};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use drydock_images::{BuildOptions, Progress, Store, node_recipe};
use progress::{Printer, stop_on_signals};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

/// Options of `drydock image`.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// Directory of the images; without it `images` in the state directory. Several servers may share one.
    #[arg(long, env = "DRYDOCK_IMAGES", value_name = "DIR", global = true)]
    pub images: Option<PathBuf>,
    /// Directory of the catalogue; without it `catalogue` in the state directory. Several servers may share one.
    #[arg(long = "catalogue", env = "DRYDOCK_CATALOGUE", value_name = "DIR", global = true)]
    pub catalogue_dir: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// List the images that are prepared.
    List,
    /// Build the node image from Debian packages (needs the Internet or a mirror, and mmdebstrap).
    Build {
        /// Name of the image.
        #[arg(default_value = "node")]
        name: String,
        /// Debian mirror to take packages from; without it mmdebstrap's default.
        #[arg(long, value_name = "URL", value_parser = parse_mirror)]
        mirror: Option<String>,
        /// Do nothing if there is an image of this name that was made from the same list of packages and the same files.
        #[arg(long)]
        if_missing: bool,
    },
    /// Read images from a file that `drydock image export` wrote (a tar of an OCI image layout).
    Import {
        /// The file; `-` is standard input.
        file: PathBuf,
    },
    /// Write an image as one file, for a machine without Internet.
    Export {
        /// Name of the image.
        name: String,
        /// The file; `-` is standard output.
        file: PathBuf,
    },
    /// Make container images that nodes find without Internet (needs the Internet or a mirror itself, and mmdebstrap).
    Add(AddArgs),
    /// List, export and import the container images that nodes find without Internet.
    Catalogue {
        #[command(subcommand)]
        command: Option<CatalogueCommand>,
    },
}

/// A mirror goes to mmdebstrap as an argument, which must not be taken for an option or for a file of sources.
fn parse_mirror(text: &str) -> Result<String, String> {
    let known = ["http://", "https://", "file:///"].iter().any(|scheme| text.starts_with(scheme));
    if known && text.len() <= 500 && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Ok(text.to_owned())
    } else {
        Err("it has the form https://mirror.example.org/debian".into())
    }
}

/// Where the images of a server are.
pub fn images_dir(images: Option<&Path>, state_dir: &Path) -> PathBuf {
    images.map_or_else(|| state_dir.join("images"), Path::to_owned)
}

/// Runs the command.
pub fn run(args: ImageArgs, state_dir: &Path, json: bool) -> anyhow::Result<()> {
    let dir = catalogue_dir(args.catalogue_dir.as_deref(), state_dir);
    let command = match args.command {
        Command::Add(args) => return catalogue::add(&dir, &args, json),
        Command::Catalogue { command } => {
            return catalogue::run(&dir, command.unwrap_or(CatalogueCommand::List), json);
        }
        command => command,
    };
    let store = Store::open(images_dir(args.images.as_deref(), state_dir))?;
    match command {
        Command::List => list(&store, json),
        Command::Build { name, mirror, if_missing } => build(&store, &name, mirror, if_missing, json),
        Command::Import { file } => import(&store, &file, json),
        Command::Export { name, file } => export(&store, &name, &file, json),
        Command::Add(_) | Command::Catalogue { .. } => Ok(()),
    }
}

fn list(store: &Store, json: bool) -> anyhow::Result<()> {
    let images = store.list()?;
    if json {
        return say(&serde_json::to_string_pretty(&images)?);
    }
    let mut lines = vec![format!("{:<24} {:<14} {:<22} {:>8}", "NAME", "DIGEST", "CREATED", "SIZE")];
    lines.extend(images.iter().map(|image| {
        let size = format!("{} MB", image.size / 1_000_000);
        let digest = &image.digest.hex()[..12];
        format!("{:<24} {digest:<14} {:<22} {size:>8}", image.name, image.created)
    }));
    say(&lines.join("\n"))
}

fn build(
    store: &Store,
    name: &str,
    mirror: Option<String>,
    if_missing: bool,
    json: bool,
) -> anyhow::Result<()> {
    let there = if_missing && store.contains(name);
    if there && store.recipe(name) == Some(node_recipe().to_string()) {
        return tell(json, &serde_json::json!({"name": name, "built": false}), &format!("{name} is there"));
    }
    let mut printer = Printer::new();
    let options = BuildOptions { mirror, stop: Some(stop_on_signals()?) };
    let built = store.build(name, &options, &mut |progress| printer.show(progress));
    printer.finish();
    let digest = match built {
        // A machine without Internet goes on with what it has.
        Err(e) if there && !matches!(e, drydock_images::Error::Stopped) => {
            eprintln!(
                "drydock: {name} is there, but made from other packages or files; it could not be made anew: {e}"
            );
            let answer = serde_json::json!({"name": name, "built": false, "kept": e.to_string()});
            return tell(json, &answer, &format!("{name} is there"));
        }
        built => built?,
    };
    let seconds = printer.seconds();
    let answer = serde_json::json!({"name": name, "digest": digest, "built": true, "seconds": seconds});
    tell(json, &answer, &format!("{name} {digest}, built in {seconds} s"))
}

fn import(store: &Store, file: &Path, json: bool) -> anyhow::Result<()> {
    let mut printer = Printer::new();
    let mut show = |progress: Progress<'_>| printer.show(progress);
    let names = if file == Path::new("-") {
        store.import(&mut io::stdin().lock(), &mut show)?
    } else {
        let from = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        store.import(&mut BufReader::new(from), &mut show)?
    };
    printer.finish();
    tell(json, &serde_json::json!({"imported": names}), &names.join("\n"))
}

fn export(store: &Store, name: &str, file: &Path, json: bool) -> anyhow::Result<()> {
    let Some(size) = to_file(file, &mut |out| Ok(store.export(name, out)?))? else { return Ok(()) };
    let answer = serde_json::json!({"name": name, "file": file, "size": size});
    tell(json, &answer, &format!("{name} is in {} ({} MB)", file.display(), size / 1_000_000))
}

/// Writes images into a file and tells its size; `None` for standard output.
fn to_file(
    file: &Path,
    write: &mut dyn FnMut(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<Option<u64>> {
    if file == Path::new("-") {
        if io::stdout().is_terminal() {
            bail!("the image is not for a terminal: name a file or send standard output into one");
        }
        write(&mut io::stdout().lock())?;
        return Ok(None);
    }
    let mut out = BufWriter::with_capacity(1 << 20, Counted { target: Target::open(file)?, bytes: 0 });
    write(&mut out)?;
    let Counted { target, bytes } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    target.finish()?;
    Ok(Some(bytes))
}

/// A file under way and how much was written into it.
struct Counted {
    target: Target,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.target.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

fn tell(json: bool, answer: &serde_json::Value, text: &str) -> anyhow::Result<()> {
    if json { say(&answer.to_string()) } else { say(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors() {
        assert!(parse_mirror("https://mirror.example.org/debian").is_ok());
        assert!(parse_mirror("file:///srv/mirror").is_ok());
        for bad in ["", "--hook=sh", "/etc/apt/sources.list", "deb http://a b c", "http://a b"] {
            assert!(parse_mirror(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn images_are_in_the_state_directory_unless_told_otherwise() {
        assert_eq!(images_dir(None, Path::new("/s")), Path::new("/s/images"));
        assert_eq!(images_dir(Some(Path::new("/i")), Path::new("/s")), Path::new("/i"));
    }
}
