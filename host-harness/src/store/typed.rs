//! What a user types, taken apart: words, fields, quotes, brackets and operators.
//!
//! Why so forgiving: people paste whatever they have at hand, and no query is an error. What means nothing where it
//! stands, such as an OR at the end or a bracket within a word, is text or nothing.

use super::words;

/// Fields of the search page; they are also the columns of the index.
pub(super) const FIELDS: [&str; 6] = ["src_ip", "dst_ip", "hostname", "user", "severity", "stream"];

/// How deep brackets are understood. FTS5's parser gives up at some thirty.
const MOST_DEPTH: usize = 4;

/// One thing that must match.
#[derive(Debug, Default)]
pub(super) struct Term {
    pub(super) field: Option<&'static str>,
    pub(super) words: String,
    /// Whether any part was quoted: then it is taken as it is.
    pub(super) quoted: bool,
    /// Whether the field had a hyphen before it: what it finds is left out.
    pub(super) negated: bool,
    /// What stands before its first colon outside quotes, and is no field.
    pub(super) unknown: Option<String>,
}

/// A piece of a query.
#[derive(Debug)]
pub(super) enum Token {
    Term(Term),
    And,
    Or,
    Not,
    /// A bracket, with what stands before it.
    Open(Term),
    Close,
}

impl Term {
    /// Whether it is only a field, and what is looked for in it comes behind a space.
    fn is_field_alone(&self) -> bool {
        self.field.is_some() && self.words.is_empty() && !self.quoted
    }

    /// Whether it is only words.
    fn is_plain(&self) -> bool {
        self.field.is_none() && !self.quoted
    }

    fn is_blank(&self) -> bool {
        self.words.is_empty() && !self.quoted
    }

    /// The operator that it is, or itself.
    fn token(self) -> Token {
        match self.words.as_str() {
            "AND" if self.is_plain() => Token::And,
            "OR" if self.is_plain() => Token::Or,
            "NOT" if self.is_plain() => Token::Not,
            _ => Token::Term(self),
        }
    }
}

/// Takes a query apart.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for token in split(text) {
        let Some(token) = put_together(&mut tokens, token) else { continue };
        tokens.push(token);
    }
    tokens
}

/// Puts what belongs to the token before it there, or gives it back: what a field is followed by after a space, and the
/// time of day behind a day.
fn put_together(before: &mut [Token], token: Token) -> Option<Token> {
    let Some(Token::Term(last)) = before.last_mut() else { return Some(token) };
    match token {
        Token::Term(term) if last.is_field_alone() && term.field.is_none() => {
            (last.words, last.quoted) = (term.words, term.quoted);
            None
        }
        Token::Open(term) if last.is_field_alone() && term.field.is_none() => {
            let field = std::mem::take(last);
            if let Some(last) = before.last_mut() {
                *last = Token::Open(field);
            }
            None
        }
        Token::Term(term) if !last.quoted && term.is_plain() => match words::moment(&last.words, &term.words) {
            Some(moment) => {
                last.words = moment;
                None
            }
            None => Some(Token::Term(term)),
        },
        token => Some(token),
    }
}

/// Splits at spaces and brackets outside quotes. A quote, and a bracket, that is never closed reaches to the end.
fn split(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut term = Term::default();
    let mut in_quotes = false;
    let mut depth = 0;
    let mut all = text.chars().peekable();
    while let Some(c) = all.next() {
        let ends = all.peek().is_none_or(|next| next.is_whitespace() || *next == ')');
        match c {
            '"' => {
                in_quotes = !in_quotes;
                term.quoted = true;
            }
            c if in_quotes => term.words.push(c),
            c if c.is_whitespace() => tokens.push(std::mem::take(&mut term).token()),
            '(' if term.is_blank() && depth < MOST_DEPTH => {
                depth += 1;
                tokens.push(Token::Open(std::mem::take(&mut term)));
            }
            ')' if depth > 0 && ends && !term.words.contains('(') => {
                depth -= 1;
                tokens.push(std::mem::take(&mut term).token());
                tokens.push(Token::Close);
            }
            ':' if !term.quoted && term.field.is_none() => {
                let (negated, name) = match term.words.strip_prefix('-') {
                    Some(name) => (true, name),
                    None => (false, term.words.as_str()),
                };
                match FIELDS.into_iter().find(|field| field.eq_ignore_ascii_case(name)) {
                    Some(field) => term = Term { field: Some(field), negated, ..Term::default() },
                    None => {
                        term.unknown.get_or_insert_with(|| name.to_owned());
                        term.words.push(c);
                    }
                }
            }
            c => term.words.push(c),
        }
    }
    tokens.push(term.token());
    tokens.retain(|token| !matches!(token, Token::Term(term) if term.field.is_none() && term.is_blank()));
    tokens
}
