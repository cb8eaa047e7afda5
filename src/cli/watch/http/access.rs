//! Who may see the page, and what another site's page may not do through a visitor's browser.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::super::super::Failure;
use super::request::Request;

/// The variable that may hold the token.
const VARIABLE: &str = "SEXTANT_HTTP_TOKEN";
/// Shortest token: 16 hexadecimal digits are 64 bits.
const SHORTEST: usize = 16;
/// Longest token.
const LONGEST: usize = 256;

/// Who may see the page.
pub struct Access {
    token: Option<String>,
    cookie: String,
}

impl Access {
    /// The access of a page at `address`, with the token of a file or of the environment.
    pub fn new(address: SocketAddr, file: Option<&Path>) -> Result<Self, Failure> {
        let token = match file {
            Some(path) => Some(read(path)?),
            None => match std::env::var(VARIABLE) {
                Ok(token) if !token.trim().is_empty() => Some(check(&token, VARIABLE)?),
                _ => None,
            },
        };
        if token.is_none() && !address.ip().is_loopback() {
            return Err(Failure::Usage(format!(
                "--http {address}: others can reach this address, so it needs a token: \
                 openssl rand -hex 16 > FILE, then --http-token-file FILE"
            )));
        }
        // Cookies do not tell ports apart, and one host may run several watches.
        Ok(Self { token, cookie: format!("sextant_{}", address.port()) })
    }

    /// Whether the request carries the token, where there is one.
    pub fn allows(&self, request: &Request) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = request.header("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let cookies = request.header("cookie").unwrap_or_default().split(';');
        let cookie = cookies
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find(|(name, _)| *name == self.cookie);
        bearer.or(cookie.map(|(_, value)| value)).is_some_and(|given| same(given, token))
    }

    /// The cookie to set for who gives this token, if it is the right one.
    pub fn cookie_for(&self, given: &str) -> Option<String> {
        let token = self.token.as_ref().filter(|token| same(given.trim(), token))?;
        Some(format!(
            "{}={token}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict",
            self.cookie
        ))
    }

    /// Whether the request was meant for this page. A site whose name turns into this address
    /// after it was loaded (DNS rebinding) is caught here, or has no token.
    pub fn is_meant_for_us(&self, request: &Request) -> bool {
        let Some(host) = request.header("host") else { return false };
        self.token.is_some() || is_local(host)
    }

    /// Whether a request that changes something comes from this page or from no page at all.
    pub fn is_from_us(&self, request: &Request) -> bool {
        match (request.header("origin"), request.header("sec-fetch-site")) {
            (Some(origin), _) => {
                let host = origin.split_once("://").map(|(_, host)| host);
                host.is_some() && host == request.header("host")
            }
            (None, Some(site)) => matches!(site, "same-origin" | "none"),
            (None, None) => true,
        }
    }
}

/// Whether a `Host` header names this computer: a site elsewhere cannot have that name.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let refuse = |reason: &dyn std::fmt::Display| {
        Failure::Usage(format!("--http-token-file {shown}: cannot be read: {reason}"))
    };
    let length = std::fs::metadata(path).map_err(|e| refuse(&e))?.len();
    if length > 4096 {
        return Err(refuse(&"it is larger than a token"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| refuse(&e))?;
    check(&text, &shown.to_string())
}

fn check(text: &str, from: &str) -> Result<String, Failure> {
    let token = text.trim();
    // What may stand in a cookie and in a header as it is.
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
    if !(SHORTEST..=LONGEST).contains(&token.len()) || !token.bytes().all(fits) {
        return Err(Failure::Usage(format!(
            "{from}: a token is one word of {SHORTEST} to {LONGEST} ASCII characters without \
             quotes, commas, semicolons and backslashes; openssl rand -hex 16 makes one"
        )));
    }
    Ok(token.to_owned())
}

/// Compares in a time that tells nothing: digests have one length, and all bytes are looked at.
fn same(given: &str, token: &str) -> bool {
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    let difference = given.iter().zip(token.iter()).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access { token: Some("0123456789abcdef".to_owned()), cookie: "sextant_8080".to_owned() }
    }

    fn request(headers: &[(&str, &str)]) -> Request {
        Request::with_headers(headers)
    }

    #[test]
    fn the_token_opens_by_header_and_by_cookie() {
        let allows = |headers: &[(&str, &str)]| access().allows(&request(headers));
        assert!(allows(&[("authorization", "Bearer 0123456789abcdef")]));
        assert!(allows(&[("cookie", "a=b; sextant_8080=0123456789abcdef")]));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0"] {
            assert!(!allows(&[("authorization", &format!("Bearer {wrong}"))]), "{wrong}");
            assert!(!allows(&[("cookie", &format!("sextant_8080={wrong}"))]), "{wrong}");
        }
        assert!(!allows(&[]));
        assert!(!allows(&[("cookie", "sextant_8081=0123456789abcdef")]));
        assert!(access().cookie_for("0123456789abcdef\n").is_some());
        assert!(access().cookie_for("wrong").is_none());
    }

    #[test]
    fn without_a_token_only_names_of_this_computer_are_ours() {
        let open = Access { token: None, cookie: String::new() };
        let meant = |host: &str| open.is_meant_for_us(&request(&[("host", host)]));
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "127.1.2.3"] {
            assert!(meant(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "192.168.1.2:80", "[::2]", "0.0.0.0"]
        {
            assert!(!meant(host), "{host}");
        }
        assert!(!open.is_meant_for_us(&request(&[])));
        assert!(access().is_meant_for_us(&request(&[("host", "camera.lan")])));
    }

    #[test]
    fn other_sites_change_nothing() {
        let from_us = |headers: &[(&str, &str)]| access().is_from_us(&request(headers));
        let host = ("host", "camera.lan:8080");
        assert!(from_us(&[host, ("origin", "http://camera.lan:8080")]));
        assert!(from_us(&[host]), "a program that is no browser");
        assert!(!from_us(&[host, ("origin", "http://camera.lan")]));
        assert!(!from_us(&[host, ("origin", "http://evil.example")]));
        assert!(!from_us(&[host, ("origin", "null")]));
        assert!(!from_us(&[host, ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn tokens_are_words_and_needed_where_others_reach() {
        for wrong in ["short", "has spaces in the token", "has;semicolons;0123", &"x".repeat(300)] {
            assert!(check(wrong, "f").is_err(), "{wrong}");
        }
        assert_eq!(check(" 0123456789abcdef\n", "f").ok().as_deref(), Some("0123456789abcdef"));
    }
}
