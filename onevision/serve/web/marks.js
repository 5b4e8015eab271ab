// The boxes and points in an answer -> elements that lie on its picture. The same as boxes.py reads.

const NUMBER = String.raw`\s*(\d+(?:\.\d+)?|\.\d+)\s*`;
const PAIR = String.raw`[\[(]${NUMBER},${NUMBER}[\])]`;
const MARK = new RegExp(String.raw`[\[(]${NUMBER},${NUMBER},${NUMBER},${NUMBER}[\])]|${PAIR}\s*,?\s*${PAIR}|${PAIR}`, "g");
const EDGES = { unit: 1, thousandths: 1000 };

// Lists of two or four shares of the picture's width and height, in the order of the text.
export function findMarks(text, coordinates) {
  const found = [...text.matchAll(MARK)].map((match) => match.slice(1).filter((number) => number !== undefined)
    .map((number) => Number(number) / EDGES[coordinates]));
  return found.filter((n) => n.every((share) => share <= 1) && (n.length === 2 || (n[0] < n[2] && n[1] < n[3])));
}

// A picture with the marks on it, numbered if there are several.
export function drawMarks(picture, marks) {
  const made = document.createElement("span");
  made.className = "marked";
  made.append(picture, ...marks.map(([left, top, right, bottom], place) => {
    const mark = document.createElement("i");
    const isBox = right !== undefined;
    mark.className = `${isBox ? "box" : "point"} c${place % 7}`;
    mark.title = `${isBox ? "box" : "point"} ${place + 1}`;
    if (marks.length > 1) mark.dataset.number = place + 1;
    Object.assign(mark.style, { left: `${100 * left}%`, top: `${100 * top}%` });
    if (isBox) Object.assign(mark.style, { width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%` });
    return mark;
  }));
  return made;
}
