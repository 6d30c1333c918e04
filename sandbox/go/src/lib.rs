//! Errors in the words of Go's standard library, which Docker and Kubernetes pass on to their users.

pub mod json;

/// An error of the operating system: in small letters and without its number (`syscall.Errno`). Others as they are.
pub fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn errors_of_the_system_are_as_go_has_them() {
        assert_eq!(io_text(&io::Error::from_raw_os_error(5)), "input/output error");
        assert_eq!(io_text(&io::Error::other("Mine")), "Mine");
    }
}
