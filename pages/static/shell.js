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
  // Dialogs and popovers are drawn beside the application's element, which alone knows whether it is light or dark.
  let scheme = "";
  const follow = () => {
    const app = document.querySelector(".stApp");
    const now = app ? getComputedStyle(app).colorScheme : "";
    if (now && now !== scheme) document.documentElement.style.colorScheme = scheme = now;
  };
  follow();
  new MutationObserver(follow).observe(document.body, { childList: true });
  new MutationObserver(() => {
    const field = document.querySelector('[role="dialog"] .st-key-search_for input');
    if (field && !field.dataset.focused) {
      field.dataset.focused = "yes";
      setTimeout(() => field.focus(), 60);
    }
  }).observe(document.body, { childList: true, subtree: true });
}
