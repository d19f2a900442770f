//! What a user is, once a message has been read: no field is checked again after this.

use kit::{Moment, invalid};
use proto::user::v1;
use tonic::Status;

/// An address of at most 254 bytes (RFC 5321, 4.5.3.1.3, less its angle brackets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

/// A name to show: at most 200 characters, not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May administer.
    Admin,
    /// An ordinary user.
    Member,
}

/// A user that has no ID yet.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Where to reach them; unique.
    pub email: Email,
    /// What to call them.
    pub name: Name,
    /// What they may do.
    pub role: Role,
}

/// What to change of a user; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The new address.
    pub email: Option<Email>,
    /// The new name.
    pub name: Option<Name>,
    /// The new role.
    pub role: Option<Role>,
}

/// A user as it is stored.
#[derive(Clone, Debug)]
pub struct User {
    /// Counted up from 1.
    pub id: i64,
    /// As it was given.
    pub email: String,
    /// As it was given.
    pub name: String,
    /// The number of `user.v1.UserRole`.
    pub role: i32,
    /// When it was created.
    pub created_at: Moment,
    /// When a field last changed.
    pub updated_at: Moment,
}

impl Email {
    /// Reads the field `email`.
    pub fn parse(found: &str) -> Result<Self, Status> {
        let plain = !found.chars().any(|c| c.is_whitespace() || c.is_control());
        let parts = found.split_once('@');
        let whole = parts.is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !host.contains('@')
        });
        if plain && whole && found.len() <= 254 {
            return Ok(Self(found.to_owned()));
        }
        let shown: String = found.chars().take(80).collect();
        let expected = "an address like ada@example.com, of at most 254 bytes";
        Err(invalid("email", format_args!("found {shown:?}, expected {expected}")))
    }

    /// The address as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What no two users share: the address whatever its case.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl Name {
    /// Reads the field `name`.
    pub fn parse(found: &str) -> Result<Self, Status> {
        kit::text("name", found, 200).map(|name| Self(name.to_owned()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Role {
    /// Reads the field `role`: `None` where it is unspecified.
    pub fn parse(found: i32) -> Result<Option<Self>, Status> {
        match v1::UserRole::try_from(found) {
            Ok(v1::UserRole::Unspecified) => Ok(None),
            Ok(v1::UserRole::Admin) => Ok(Some(Self::Admin)),
            Ok(v1::UserRole::Member) => Ok(Some(Self::Member)),
            Err(_) => Err(invalid("role", format_args!("found {found}, expected 0, 1 or 2"))),
        }
    }

    /// The number of `user.v1.UserRole`.
    pub fn number(self) -> i32 {
        match self {
            Self::Admin => v1::UserRole::Admin.into(),
            Self::Member => v1::UserRole::Member.into(),
        }
    }
}

impl TryFrom<v1::CreateUserRequest> for NewUser {
    type Error = Status;

    fn try_from(message: v1::CreateUserRequest) -> Result<Self, Status> {
        Ok(Self {
            email: Email::parse(&message.email)?,
            name: Name::parse(&message.name)?,
            role: Role::parse(message.role)?.unwrap_or(Role::Member),
        })
    }
}

impl TryFrom<v1::UpdateUserRequest> for Change {
    type Error = Status;

    fn try_from(message: v1::UpdateUserRequest) -> Result<Self, Status> {
        let role = message.role.map(Role::parse).transpose()?;
        if role == Some(None) {
            return Err(invalid(
                "role",
                "found USER_ROLE_UNSPECIFIED, expected a role, or nothing",
            ));
        }
        Ok(Self {
            email: message.email.as_deref().map(Email::parse).transpose()?,
            name: message.name.as_deref().map(Name::parse).transpose()?,
            role: role.flatten(),
        })
    }
}

impl From<User> for v1::User {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email,
            name: user.name,
            role: user.role,
            created_at: Some(user.created_at.into()),
            updated_at: Some(user.updated_at.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_has_one_at_and_no_spaces() {
        for good in ["ada@example.com", "a@b", "Ada+x@example.com", "añb@exämple.com"] {
            assert_eq!(Email::parse(good).unwrap().as_str(), good);
        }
        let long = format!("{}@example.com", "a".repeat(250));
        for bad in ["", "ada", "@example.com", "ada@", "a@b@c", "a b@c", "a@b\n", long.as_str()] {
            let refused = Email::parse(bad).unwrap_err();
            assert!(refused.message().starts_with("email: found "), "{}", refused.message());
        }
    }

    #[test]
    fn a_role_that_is_present_must_say_one() {
        let update = |role| Change::try_from(v1::UpdateUserRequest { role, ..Default::default() });
        assert_eq!(update(None).unwrap().role, None);
        assert_eq!(update(Some(1)).unwrap().role, Some(Role::Admin));
        for refused in [Some(0), Some(9)] {
            assert!(update(refused).unwrap_err().message().starts_with("role: found "));
        }
    }
}
