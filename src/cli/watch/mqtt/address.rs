//! `mqtt://[user[:password]@]host[:port][/prefix]`.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// The port that brokers listen at without TLS.
const PORT: u16 = 1883;

/// Where a broker is, and under which topic to speak.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password.
    pub user: Option<(String, Option<String>)>,
    /// What all topics begin with.
    pub prefix: String,
}

/// A password is not for logs.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({self})")
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "mqtt://[{}]:{}/{}", self.host, self.port, self.prefix),
            false => write!(f, "mqtt://{}:{}/{}", self.host, self.port, self.prefix),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("mqtt", rest)) => rest,
            Some(("mqtts" | "ssl", _)) => {
                return Err("TLS is not built in: use a broker on this network, or a tunnel such \
                            as stunnel, by mqtt://"
                    .to_owned());
            }
            _ => return Err("an address such as mqtt://user@broker:1883/prefix".to_owned()),
        };
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place)?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("no host: mqtt://HOST".to_owned());
        }
        let prefix = match prefix.trim_matches('/') {
            "" => "sextant".to_owned(),
            prefix => decode(prefix)?,
        };
        if prefix.len() > 200 || prefix.contains(['#', '+', '\0']) {
            return Err("a prefix has at most 200 bytes, and no # and +".to_owned());
        }
        let user = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((user, "")) => Some((decode(user)?, None)),
            Some((user, password)) => Some((decode(user)?, Some(decode(password)?))),
            None => None,
        };
        Ok(Self { host: host.to_owned(), port, user, prefix })
    }
}

fn split_port(place: &str) -> Result<(&str, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a [ without its ]")?;
            (host, rest.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    match port.map(str::parse::<u16>) {
        None => Ok((host, PORT)),
        Some(Ok(port)) if port > 0 => Ok((host, port)),
        Some(_) => Err("the port is a number from 1 to 65535".to_owned()),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| "the address is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_all_parts_or_few() {
        let address: Address = "mqtt://me:p%40ss@[::1]:1884/home/cams/".parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 1884));
        assert_eq!(address.user, Some(("me".to_owned(), Some("p@ss".to_owned()))));
        assert_eq!(address.prefix, "home/cams");
        assert!(!format!("{address:?}").contains("p@ss"));
        let address: Address = "mqtt://broker".parse().unwrap();
        assert_eq!(address.to_string(), "mqtt://broker:1883/sextant");
        assert_eq!(address.user, None);
    }

    #[test]
    fn wrong_addresses_say_what_is_wrong() {
        for (text, says) in [
            ("broker", "such as"),
            ("mqtts://broker", "TLS"),
            ("mqtt://", "no host"),
            ("mqtt://broker:99999", "port"),
            ("mqtt://[::1", "]"),
            ("mqtt://broker/a/#", "prefix"),
            ("mqtt://a%ff@broker", "UTF-8"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
