"use strict";

const byId = name => document.getElementById(name);
let photo = null;      // base64 of the chosen file
let encrypted = null;  // base64 of its encryption
let turn = 0;          // what an earlier choice still brings is thrown away

async function ask(step, request) {
  const answer = await fetch(step, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

async function inBase64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000)
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  return btoa(text);
}

function asBlob(text) {
  return new Blob([Uint8Array.from(atob(text), character => character.charCodeAt(0))]);
}

function show(name, blob, describe) {
  const figure = byId(name), picture = figure.querySelector("img");
  URL.revokeObjectURL(picture.src);
  picture.onload = () => {
    const size = `${picture.naturalWidth} × ${picture.naturalHeight} pixels`;
    figure.querySelector("span").textContent = describe ? describe(size) : size;
  };
  picture.src = URL.createObjectURL(blob);
  figure.hidden = false;
}

function hide(...names) {
  for (const name of names) byId(name).hidden = true;
}

async function busy(said, work) {
  const mine = ++turn, current = () => mine === turn;
  byId("error").textContent = "";
  byId("status").textContent = said;
  document.body.classList.add("busy");
  try {
    await work(current);
  } catch (error) {
    if (current()) byId("error").textContent = error.message;
  }
  if (!current()) return;
  document.body.classList.remove("busy");
  byId("status").textContent = byId("error").textContent ? "That did not work." : "Done.";
}

async function choose(file) {
  hide("encrypted", "received", "right", "wrong");
  show("original", file);
  await busy("Encrypting…", async current => {
    photo = encrypted = null;
    const chosen = await inBase64(file);
    const hidden = (await ask("/encrypt", { photo: chosen })).encrypted;
    if (!current()) return;
    [photo, encrypted] = [chosen, hidden];
    show("encrypted", asBlob(encrypted));
    await decrypt(current);
  });
}

async function decrypt(current) {
  byId("status").textContent = "Decrypting…";
  const quality = byId("quality").value;
  const answer = await ask("/decrypt", {
    photo, encrypted,
    percent: Number(byId("percent").value),
    quality: quality ? Number(quality) : null,
  });
  if (!current()) return;
  const size = `${Math.ceil(answer.received_bytes / 1000)} kB`;
  show("received", asBlob(answer.received), pixels => `${pixels}, ${size}`);
  if (answer.error) {
    hide("right", "wrong");
    throw new Error(answer.error);
  }
  const likeness = result => () => `PSNR ${result.psnr_db.toFixed(1)} dB`;
  show("right", asBlob(answer.right.picture), likeness(answer.right));
  show("wrong", asBlob(answer.wrong.picture),
    () => `PSNR ${answer.wrong.psnr_db.toFixed(1)} dB. ${answer.wrong.refusal[0].toUpperCase()}${answer.wrong.refusal.slice(1)}.`);
}

byId("photo").addEventListener("change", event => {
  if (event.target.files.length) choose(event.target.files[0]);
});
for (const name of ["percent", "quality"])
  byId(name).addEventListener("change", () => {
    if (encrypted) busy("Decrypting…", decrypt);
  });
const drop = byId("drop");
for (const kind of ["dragenter", "dragover"])
  document.addEventListener(kind, event => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"])
  document.addEventListener(kind, event => { event.preventDefault(); drop.classList.remove("over"); });
document.addEventListener("drop", event => {
  if (event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
});
