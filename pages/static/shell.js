// Keyboard: "/" opens the search, an opened search has the cursor in its field, Enter there opens the first find.
if (!window.pilothouseKeys) {
  window.pilothouseKeys = true;
  const typing = (element) =>
    element && (element.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(element.tagName));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing(document.activeElement)) return;
    const button = document.querySelector(".st-key-search button");
    if (button) {
      event.preventDefault();
      button.click();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.closest?.('[role="dialog"] .st-key-search_for')) return;
    const found = event.target.closest('[role="dialog"]').querySelector('[data-testid="stPageLink"] a');
    // The list follows the last letter a moment later: wait for it, or Enter would open what stood there before.
    if (found && event.target.value) {
      setTimeout(() => document.querySelector('[role="dialog"] [data-testid="stPageLink"] a')?.click(), 350);
    }
  }, true);
  new MutationObserver(() => {
    const field = document.querySelector('[role="dialog"] .st-key-search_for input');
    if (field && !field.dataset.focused) {
      field.dataset.focused = "yes";
      setTimeout(() => field.focus(), 60);
    }
  }).observe(document.body, { childList: true, subtree: true });
}
