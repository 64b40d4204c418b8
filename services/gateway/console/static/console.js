// Keeps pages fresh while they are looked at: after each event of a page's stream, or every few seconds, it asks for the
// page again and replaces the regions that have changed. Everything works without it.
"use strict";

const body = document.body;
// The one place where text becomes HTML: a page of the console itself, whose scripts don't run.
const pages = window.trustedTypes?.createPolicy("console", { createHTML: (text) => text }) ?? { createHTML: (text) => text };
let isRefreshing = false;
let isStale = false;

async function refreshRegions() {
  if (document.hidden || isRefreshing) {
    isStale = true;
    return;
  }
  isRefreshing = true;
  isStale = false;
  try {
    const response = await fetch(location.href, { headers: { accept: "text/html" } });
    if (response.redirected) return location.reload();
    if (response.ok) replaceRegions(new DOMParser().parseFromString(pages.createHTML(await response.text()), "text/html"));
    announceState(response.ok ? "" : "The page can't be refreshed at the moment.");
  } catch {
    announceState("The page can't be refreshed at the moment.");
  } finally {
    isRefreshing = false;
  }
  if (isStale) setTimeout(refreshRegions, 300);
}

function replaceRegions(fresh) {
  for (const region of document.querySelectorAll("[data-region]")) {
    const next = fresh.getElementById(region.id);
    if (!next || next.outerHTML === region.outerHTML || isInUse(region)) continue;
    for (const details of region.querySelectorAll("details[open][id]")) next.querySelector(`#${CSS.escape(details.id)}`)?.setAttribute("open", "");
    const focused = region.contains(document.activeElement) ? document.activeElement : null;
    const left = region.scrollLeft;
    region.replaceWith(next);
    next.scrollLeft = left;
    if (focused) (focused.id && document.getElementById(focused.id) || next).focus({ preventScroll: true });
  }
}

// Whoever types or has marked something there goes on undisturbed.
function isInUse(region) {
  const active = document.activeElement;
  const selection = getSelection();
  return (region.contains(active) && active.matches("input, select, textarea")) ||
    (selection && !selection.isCollapsed && region.contains(selection.anchorNode));
}

function announceState(text) {
  const status = document.getElementById("live-status");
  if (status && status.textContent !== text) status.textContent = text;
}

function openStream(url) {
  const source = new EventSource(url);
  for (const name of ["status", "stock", "reset"]) source.addEventListener(name, refreshRegions);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

function offerThemes() {
  const button = document.getElementById("theme");
  if (!button) return;
  const root = document.documentElement;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const show = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`); };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    document.cookie = `caravan-console-theme=${root.dataset.theme}; path=/console; max-age=31536000; samesite=strict`;
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

document.addEventListener("submit", (event) => {
  if (event.target.dataset.isSent) return event.preventDefault();
  event.target.dataset.isSent = "yes";
  event.submitter?.setAttribute("aria-busy", "true");
  body.classList.add("is-loading");
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (link && link.origin === location.origin && !link.hash && !link.download && !event.ctrlKey && !event.metaKey && !event.shiftKey) body.classList.add("is-loading");
});
addEventListener("pageshow", () => {
  body.classList.remove("is-loading");
  for (const form of document.forms) delete form.dataset.isSent;
  for (const button of document.querySelectorAll("button[aria-busy]")) button.removeAttribute("aria-busy");
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const search = document.querySelector("input[type=search]");
  if (search) { event.preventDefault(); search.focus(); search.select(); }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && (isStale || body.dataset.refresh)) refreshRegions(); });

offerThemes();
document.querySelector(".side nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
if (body.dataset.live) openStream(body.dataset.live);
if (body.dataset.refresh) setInterval(refreshRegions, 1000 * Number(body.dataset.refresh));
