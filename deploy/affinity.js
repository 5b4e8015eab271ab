// The body of a request -> the key of its conversation, by which nginx chooses a replica.
//
//     a conversation with media:  API key, cache_salt, the first picture or video
//     one of words alone:         API key, cache_salt, instructions and the first question
//
// Later turns begin as the first did, so they have its key; so do other questions about the same
// picture. API key and salt are part of it because a server shares nothing across them either.
// Bodies that cannot be read have no key: any replica may refuse them.
//
// Work and memory are bounded whatever a body holds: long strings, which media are, are not
// parsed, and one of them is digested. Plain enough for njs 0.7.9.

import crypto from 'crypto';

const QUOTE = 34, BACKSLASH = 92;
// Longer strings are cut out before the rest is parsed.
const LONG_BYTES = 128;
// Beyond these, a body has no key: quotes and escapes looked at, and bytes parsed.
const MAX_STEPS = 1 << 17, MAX_PARSED_BYTES = 1 << 17;
const MARK = '\\u0001';

// Answers a request: finds its key and lets nginx pass it on.
function route(r) {
    try {
        const authorization = r.headersIn.Authorization || '';
        const spread = Number(r.variables.affinity_spread);
        r.variables.affinity = keyOf(r.requestBuffer, authorization, spread);
    } catch (error) {  // such as a body in a file: client_body_buffer_size is too small
        r.error(`any replica is asked: ${error}`);
    }
    r.internalRedirect('@replica');
}

// Returns the key of a body (a Buffer, or undefined without one) as hex digits; '' without a key.
//
// With `spread` above 1, conversations about the same picture have one of so many keys, by their
// first question: a picture that all ask about then occupies that many places on the ring.
function keyOf(body, authorization, spread) {
    const cuts = [];
    const asked = body && body.length ? parse(shorten(body, cuts)) : null;
    if (asked === null) {
        return '';
    }
    const named = (text) => nameOf(text, body, cuts);
    const messages = messagesOf(asked);
    const medium = firstMedium(messages);
    const words = firstWords(asked, messages).map(named);
    let subject = ['words', words];
    if (medium !== null) {
        subject = ['medium', named(medium), spread > 1 ? number(words) % spread : 0];
    } else if (!words.length) {
        return '';
    }
    const salt = asked.cache_salt || asked.prompt_cache_key || '';
    return digest(JSON.stringify([authorization, named(String(salt)), subject]));
}

// Returns the text of a body with marks in place of its long strings, whose places go to `cuts`;
// null if a string does not end, or if there is too much to read.
function shorten(body, cuts) {
    const pieces = [], work = {steps: 0};
    let taken = 0, size = 0;
    for (let at = 0, begin; (begin = body.indexOf(QUOTE, at) + 1) > 0;) {
        const end = endOfString(body, begin, work);
        if (end < 0) {
            return null;
        }
        if (end - begin > LONG_BYTES) {
            size += begin - taken;
            if (size > MAX_PARSED_BYTES) {
                return null;
            }
            pieces.push(body.slice(taken, begin).toString(), MARK + cuts.length);
            cuts.push([begin, end]);
            taken = end;
        }
        at = end + 1;
    }
    if (size + body.length - taken > MAX_PARSED_BYTES) {
        return null;
    }
    pieces.push(body.slice(taken, body.length).toString());
    return pieces.join('');
}

// Returns where a string ends: at a quote after an even number of backslashes; -1 if nowhere.
function endOfString(body, begin, work) {
    for (let end = begin; (end = body.indexOf(QUOTE, end)) >= 0; end++) {
        let first = end;
        while (first > begin && body[first - 1] === BACKSLASH && work.steps < MAX_STEPS) {
            first--;
            work.steps++;
        }
        if (++work.steps > MAX_STEPS) {
            return -1;
        }
        if ((end - first) % 2 === 0) {
            return end;
        }
    }
    return -1;
}

// Returns the object that a text holds; null if it holds none.
function parse(text) {
    try {
        const value = JSON.parse(text);
        return value !== null && typeof value === 'object' ? value : null;
    } catch (error) {
        return null;  // the server says what is wrong
    }
}

// Returns what stands for a text: its digest if it was cut out, else the text itself.
function nameOf(text, body, cuts) {
    const cut = text[0] === '\u0001' ? cuts[Number(text.slice(1))] : undefined;
    return cut ? digest(body.slice(cut[0], cut[1])) : text;
}

// Returns the messages of Chat Completions, or of the Responses API.
function messagesOf(asked) {
    if (typeof asked.input === 'string') {
        return [{role: 'user', content: asked.input}];
    }
    const given = Array.isArray(asked.messages) ? asked.messages : asked.input;
    return Array.isArray(given) ? given.filter((one) => one !== null) : [];
}

// Returns the address of the first picture, video or frame; null without any.
function firstMedium(messages) {
    for (let m = 0; m < messages.length; m++) {
        const parts = partsOf(messages[m]);
        for (let p = 0; p < parts.length; p++) {
            const address = addressOf(parts[p]);
            if (address !== null) {
                return address;
            }
        }
    }
    return null;
}

// Returns the instructions and all text up to the end of the first question.
function firstWords(asked, messages) {
    const words = typeof asked.instructions === 'string' ? [asked.instructions] : [];
    for (let m = 0; m < messages.length && messages[m].role !== 'assistant'; m++) {
        partsOf(messages[m]).forEach((part) => {
            if (typeof part.text === 'string') {
                words.push(part.text);
            }
        });
        if (messages[m].role === 'user') {
            break;
        }
    }
    return words;
}

function partsOf(message) {
    if (typeof message.content === 'string') {
        return [{text: message.content}];
    }
    return Array.isArray(message.content) ? message.content.filter((one) => one !== null) : [];
}

// Returns the address of a part's medium, whichever way it is written; null of text.
function addressOf(part) {
    let medium = part.image_url || part.video_url || part.video;
    if (Array.isArray(medium)) {
        medium = typeof medium[0] === 'string' ? medium[0] : medium[0] && medium[0].image_url;
    }
    if (medium && typeof medium === 'object') {
        medium = medium.url;
    }
    return typeof medium === 'string' ? medium : null;
}

function number(words) {
    return parseInt(digest(JSON.stringify(words)).slice(0, 8), 16);
}

function digest(data) {
    return crypto.createHash('sha256').update(data).digest('hex');
}

export default {route, keyOf};
