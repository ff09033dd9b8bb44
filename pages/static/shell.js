// Keyboard: "/" opens the search, and an opened search has the cursor in its field.
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
  new MutationObserver(() => {
    const field = document.querySelector('[role="dialog"] .st-key-search_for input');
    if (field && !field.dataset.focused) {
      field.dataset.focused = "yes";
      setTimeout(() => field.focus(), 60);
    }
  }).observe(document.body, { childList: true, subtree: true });
}
