//! What the image `hello-wasm` runs: a WASI preview 1 command. Without arguments it says hello; with a word it shows what a module has of
//! its container: `args`, `env`, `cat FILE`, `write FILE TEXT`, `exit STATUS`, `grow MEBIBYTES`, `wait`.
//!
//! Written against WASI's functions directly, since the only WebAssembly target that this project installs is the page's, which has no WASI.
//! Compiled by the Makefile with rustc alone.

#![no_std]
#![no_main]

use core::ptr::addr_of_mut;

const MESSAGE: &str = "
Hello from WebAssembly!
This message comes from a WASI module in a container: the Docker engine of this node started it
with wasmtime in namespaces and a control group of its own, as it starts any container.

See what it has of its container:
 $ alias wasm='docker run --rm --runtime io.containerd.wasmtime.v1 --platform wasi/wasm'
 $ wasm -e NAME=value hello-wasm env
 $ wasm -v \"$PWD:/data:ro\" hello-wasm cat /data/FILE

";

/// A piece of memory, as WASI takes it.
#[repr(C)]
struct Piece {
    at: *const u8,
    length: usize,
}

/// A wish to wait for a clock (`subscription` of the WASI witx files).
#[repr(C)]
struct Alarm {
    user: u64,
    kind: u64,
    clock: u64,
    nanoseconds: u64,
    precision: u64,
    flags: u64,
}

// SAFETY: these are WASI's functions with its types (wasi_snapshot_preview1.witx).
#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn args_sizes_get(count: *mut usize, bytes: *mut usize) -> u16;
    fn args_get(list: *mut *const u8, bytes: *mut u8) -> u16;
    fn environ_sizes_get(count: *mut usize, bytes: *mut usize) -> u16;
    fn environ_get(list: *mut *const u8, bytes: *mut u8) -> u16;
    fn fd_write(fd: u32, pieces: *const Piece, count: usize, written: *mut usize) -> u16;
    fn fd_read(fd: u32, pieces: *const Piece, count: usize, read: *mut usize) -> u16;
    fn path_open(
        dir: u32,
        look: u32,
        path: *const u8,
        length: usize,
        open: u32,
        rights: u64,
        inherited: u64,
        flags: u32,
        fd: *mut u32,
    ) -> u16;
    fn poll_oneoff(alarms: *const Alarm, events: *mut [u64; 4], count: usize, happened: *mut usize) -> u16;
    fn proc_exit(status: u32) -> !;
}

/// Most words and bytes of arguments or environment.
const WORDS: usize = 512;
const BYTES: usize = 64 * 1024;

static mut LIST: [*const u8; WORDS] = [core::ptr::null(); WORDS];
static mut TEXT: [u8; BYTES] = [0; BYTES];
static mut FILE: [u8; 4096] = [0; 4096];

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

fn exit(status: u32) -> ! {
    // SAFETY: ends the program.
    unsafe { proc_exit(status) }
}

fn say(fd: u32, mut text: &[u8]) {
    while !text.is_empty() {
        let mut written = 0;
        let piece = Piece { at: text.as_ptr(), length: text.len() };
        // SAFETY: the piece is `text`.
        let error = unsafe { fd_write(fd, &piece, 1, &mut written) };
        if error != 0 || written == 0 {
            exit(1);
        }
        text = &text[written..];
    }
}

fn fail(what: &str, why: u16) -> ! {
    say(2, what.as_bytes());
    say(2, b": error ");
    let digits = [b'0' + (why / 10 % 10) as u8, b'0' + (why % 10) as u8, b'\n'];
    say(2, &digits);
    exit(1)
}

/// Arguments or environment. The words stay until the next call.
fn words(
    sizes: unsafe extern "C" fn(*mut usize, *mut usize) -> u16,
    get: unsafe extern "C" fn(*mut *const u8, *mut u8) -> u16,
) -> impl Iterator<Item = &'static [u8]> {
    let (mut count, mut bytes) = (0, 0);
    // SAFETY: both tell what `get` writes, which is checked to fit. There is one thread, and nobody else uses the two statics.
    unsafe {
        if sizes(&mut count, &mut bytes) != 0 || count > WORDS || bytes > BYTES {
            fail("too many words", 1);
        }
        if get(addr_of_mut!(LIST).cast(), addr_of_mut!(TEXT).cast()) != 0 {
            fail("words", 2);
        }
    }
    (0..count).map(|at| {
        // SAFETY: `get` wrote `count` pointers to texts that end with a zero.
        unsafe { core::ffi::CStr::from_ptr((*addr_of_mut!(LIST))[at].cast()).to_bytes() }
    })
}

/// Opens a file of the container; the first directory that is handed to a module is the container's root.
fn open(path: &[u8], write: bool) -> u32 {
    const ROOT: u32 = 3;
    const CREATE: u32 = 1;
    const TRUNCATE: u32 = 8;
    const READ: u64 = 1 << 1;
    const WRITE: u64 = 1 << 6;
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let (how, rights) = if write { (CREATE | TRUNCATE, WRITE) } else { (0, READ) };
    let mut fd = 0;
    // SAFETY: the path is as long as it says.
    match unsafe { path_open(ROOT, 1, path.as_ptr(), path.len(), how, rights, 0, 0, &mut fd) } {
        0 => fd,
        error => fail("open", error),
    }
}

fn cat(fd: u32) {
    loop {
        let mut read = 0;
        let piece = Piece { at: addr_of_mut!(FILE).cast(), length: 4096 };
        // SAFETY: the piece is the static, which nobody else uses.
        match unsafe { fd_read(fd, &piece, 1, &mut read) } {
            0 if read == 0 => return,
            // SAFETY: as above.
            0 => say(1, unsafe { &(&*addr_of_mut!(FILE))[..read] }),
            error => fail("read", error),
        }
    }
}

fn number(text: &[u8]) -> u32 {
    text.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit.wrapping_sub(b'0')))
}

fn grow(mebibytes: u32) {
    for _ in 0..mebibytes {
        let page = core::arch::wasm32::memory_grow::<0>(16);
        if page == usize::MAX {
            fail("memory", 0);
        }
        for at in (0..1 << 20).step_by(4096) {
            // SAFETY: the memory has just been added and is used by nobody.
            unsafe { ((page * 65536 + at) as *mut u8).write_volatile(1) };
        }
    }
    say(1, b"grown\n");
}

fn wait() {
    let alarm = Alarm { user: 0, kind: 0, clock: 1, nanoseconds: 3_600_000_000_000, precision: 0, flags: 0 };
    let (mut event, mut happened) = ([0; 4], 0);
    // SAFETY: one wish, one event.
    unsafe { poll_oneoff(&alarm, &mut event, 1, &mut happened) };
}

/// The program.
// SAFETY: WASI calls it by this name, and nothing else here has it.
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    let mut arguments = words(args_sizes_get, args_get).skip(1);
    let (verb, first, second) = (arguments.next(), arguments.next(), arguments.next());
    let lines = |words: &mut dyn Iterator<Item = &'static [u8]>| {
        words.for_each(|word| {
            say(1, word);
            say(1, b"\n");
        });
    };
    match (verb, first, second) {
        (None, ..) => say(1, MESSAGE.as_bytes()),
        (Some(b"args"), ..) => lines(&mut words(args_sizes_get, args_get)),
        (Some(b"env"), ..) => lines(&mut words(environ_sizes_get, environ_get)),
        (Some(b"cat"), None, _) => cat(0),
        (Some(b"cat"), Some(path), _) => cat(open(path, false)),
        (Some(b"write"), Some(path), Some(text)) => say(open(path, true), text),
        (Some(b"exit"), Some(status), _) => exit(number(status)),
        (Some(b"grow"), Some(mebibytes), _) => grow(number(mebibytes)),
        (Some(b"wait"), ..) => wait(),
        _ => {
            say(2, b"hello-wasm: unknown word\n");
            exit(2)
        }
    }
}
