//! Serde forms of the data plane's types: addresses as their text, VNIs as numbers.

/// Any type as its text.
pub(crate) mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// An optional value as its text or null.
pub(crate) mod optional_text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

/// Several values as their texts.
pub(crate) mod texts {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts
            .into_iter()
            .map(|text| text.parse().map_err(D::Error::custom))
            .collect()
    }
}

/// A VNI as a number.
pub(crate) mod vni {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use vtep_dataplane::addr::Vni;

    pub(crate) fn serialize<S: Serializer>(vni: &Vni, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(vni.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vni, D::Error> {
        Vni::new(u32::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A VNI as a number, or null.
pub(crate) mod optional_vni {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use vtep_dataplane::addr::Vni;

    pub(crate) fn serialize<S: Serializer>(vni: &Option<Vni>, to: S) -> Result<S::Ok, S::Error> {
        match vni {
            Some(vni) => to.serialize_u32(vni.get()),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vni>, D::Error> {
        let number = Option::<u32>::deserialize(from)?;
        number
            .map(|number| Vni::new(number).map_err(D::Error::custom))
            .transpose()
    }
}

/// A route distinguisher as its text.
pub(crate) mod rd {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::bgp::wire::Rd;

    pub(crate) fn serialize<S: Serializer>(rd: &Rd, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(rd)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rd, D::Error> {
        let text = String::deserialize(from)?;
        crate::config::rd_of(&text).ok_or_else(|| D::Error::custom("invalid route distinguisher"))
    }
}

/// Route targets as their texts.
pub(crate) mod targets {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::bgp::wire::ExtendedCommunity;
    use crate::config::{target_of, target_text};

    pub(crate) fn serialize<S: Serializer>(
        list: &[ExtendedCommunity],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|target| target_text(*target)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<ExtendedCommunity>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let read =
            |text: &String| target_of(text).ok_or_else(|| D::Error::custom("invalid route target"));
        texts.iter().map(read).collect()
    }
}
