//! Builds an expression from tokens: `or` binds least, then `and`, then `not`. Nesting is bounded.

use super::lexer::{Token, tokens};
use super::schema::{Kind, Schema};
use super::{Expression, FilterError, Test};

/// The longest expression, and the deepest nesting, that are read.
const MAX_TEXT: usize = 4096;
const MAX_DEPTH: usize = 64;

/// Parses a whole expression.
pub(super) fn parse(text: &str, schema: Schema) -> Result<Expression, FilterError> {
    if text.len() > MAX_TEXT {
        return Err(FilterError(format!("expressions have at most {MAX_TEXT} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, schema };
    let expression = parser.either()?;
    match parser.next() {
        None => Ok(expression),
        Some(token) => Err(unexpected(Some(&token), "the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    schema: Schema,
}

fn unexpected(found: Option<&Token>, wanted: &str) -> FilterError {
    let found = match found {
        None => "the end".to_owned(),
        Some(Token::Open) => "\"(\"".to_owned(),
        Some(Token::Close) => "\")\"".to_owned(),
        Some(Token::Equal) => "\"==\"".to_owned(),
        Some(Token::NotEqual) => "\"!=\"".to_owned(),
        Some(Token::Word(text) | Token::Quoted(text)) => format!("{text:?}"),
    };
    FilterError(format!("found {found}, expected {wanted}"))
}

impl Parser {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word == keyword);
        self.at += usize::from(found);
        found
    }

    fn expects(&mut self, keyword: &str) -> Result<(), FilterError> {
        if self.takes(keyword) {
            return Ok(());
        }
        Err(unexpected(self.tokens.get(self.at), &format!("{keyword:?}")))
    }

    fn either(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.both()?;
        while self.takes("or") {
            left = Expression::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Expression, FilterError> {
        let mut left = self.one()?;
        while self.takes("and") {
            left = Expression::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Expression, FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError(format!("expressions nest at most {MAX_DEPTH} deep")));
        }
        let expression = if self.takes("not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.tokens.get(self.at) == Some(&Token::Open) {
            self.at += 1;
            let inner = self.either()?;
            match self.next() {
                Some(Token::Close) => inner,
                other => return Err(unexpected(other.as_ref(), "\")\"")),
            }
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn test(&mut self) -> Result<Expression, FilterError> {
        let left = match self.next() {
            Some(token @ (Token::Word(_) | Token::Quoted(_))) => token,
            other => return Err(unexpected(other.as_ref(), "a selector")),
        };
        // `"value" in Selector` and `"value" not in Selector` begin with the value.
        if self.takes("in") {
            let (path, kind) = self.selector()?;
            return contains(path, kind, text(left));
        }
        let at = self.at;
        if self.takes("not") {
            if self.takes("in") {
                let (path, kind) = self.selector()?;
                return contains(path, kind, text(left)).map(negated);
            }
            self.at = at;
        }
        let Token::Word(selector) = left else {
            return Err(unexpected(self.tokens.get(self.at), "\"in\" or \"not in\""));
        };
        let (path, kind) = self.schema.resolve(&selector)?;
        self.comparison(path, kind)
    }

    fn comparison(&mut self, path: Vec<String>, kind: Kind) -> Result<Expression, FilterError> {
        match self.next() {
            Some(Token::Equal) => equals(path, kind, self.value()?),
            Some(Token::NotEqual) => equals(path, kind, self.value()?).map(negated),
            Some(Token::Word(word)) if word == "is" => {
                let negative = self.takes("not");
                self.expects("empty")?;
                allows("Is Empty", &path, kind.is_collection() || kind == Kind::Text)?;
                let test = Expression::Test { path, kind, test: Test::Empty };
                Ok(if negative { negated(test) } else { test })
            }
            Some(Token::Word(word)) if word == "contains" => contains(path, kind, self.value()?),
            Some(Token::Word(word)) if word == "matches" => matches(path, kind, &self.value()?),
            Some(Token::Word(word)) if word == "not" => {
                if self.takes("contains") {
                    return contains(path, kind, self.value()?).map(negated);
                }
                self.expects("matches")?;
                matches(path, kind, &self.value()?).map(negated)
            }
            other => Err(unexpected(other.as_ref(), "an operator")),
        }
    }

    fn selector(&mut self) -> Result<(Vec<String>, Kind), FilterError> {
        match self.next() {
            Some(Token::Word(word)) => self.schema.resolve(&word),
            other => Err(unexpected(other.as_ref(), "a selector")),
        }
    }

    fn value(&mut self) -> Result<String, FilterError> {
        match self.next() {
            Some(token @ (Token::Word(_) | Token::Quoted(_))) => Ok(text(token)),
            other => Err(unexpected(other.as_ref(), "a value")),
        }
    }
}

fn text(token: Token) -> String {
    match token {
        Token::Word(text) | Token::Quoted(text) => text,
        Token::Open | Token::Close | Token::Equal | Token::NotEqual => String::new(),
    }
}

fn negated(expression: Expression) -> Expression {
    Expression::Not(Box::new(expression))
}

/// Refuses an operator that the field's kind does not have.
fn allows(operator: &str, path: &[String], allowed: bool) -> Result<(), FilterError> {
    if allowed {
        return Ok(());
    }
    let selector = path.join(".");
    Err(FilterError(format!("Invalid match operator {operator:?} for selector {selector:?}")))
}

fn equals(path: Vec<String>, kind: Kind, value: String) -> Result<Expression, FilterError> {
    allows("Equal", &path, !kind.is_collection())?;
    Ok(Expression::Test { path, kind, test: Test::Equals(value) })
}

fn contains(path: Vec<String>, kind: Kind, value: String) -> Result<Expression, FilterError> {
    allows("In", &path, kind.is_collection() || kind == Kind::Text)?;
    Ok(Expression::Test { path, kind, test: Test::Contains(value) })
}

fn matches(path: Vec<String>, kind: Kind, value: &str) -> Result<Expression, FilterError> {
    allows("Matches", &path, kind == Kind::Text)?;
    let pattern = regex::Regex::new(value)
        .map_err(|error| FilterError(format!("no regular expression: {error}")))?;
    Ok(Expression::Test { path, kind, test: Test::Matches(pattern) })
}
